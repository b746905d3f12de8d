"""`labfleet store`: the admin's verbs for the files on the webserver."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from labfleet.config import credential, web_settings

if TYPE_CHECKING:
    from labfleet.jobs import mending

FAULTS = 3
"""Exit code when something is missing."""


@click.group()
def store() -> None:
    """The files of this server: datasets, results, logs, protocols (on the webserver)."""


@store.command()
@click.option("--read", is_flag=True, help="Read every file and compare its content with its SHA-256.")
@click.option("--mend", is_flag=True, help="Run tasks again whose results are missing; bring logs in order.")
def check(read: bool, mend: bool) -> None:
    """Compare the database with the files; name what one knows and the other lacks.

    Exit code 0 if all fits or was mended, 3 if something is missing. Use --mend after a restore, while
    the application stands still. Datasets and protocols that are missing are only named: upload or import
    the same file again, and it is there again.
    """
    # Here, so that a machine without git or database libraries still has the other verbs.
    from labfleet.datasets.logs import LogStore  # noqa: PLC0415
    from labfleet.datasets.store import BlobStore  # noqa: PLC0415
    from labfleet.db.engine import make_engine, session_factory  # noqa: PLC0415
    from labfleet.jobs.mending import Stores, find  # noqa: PLC0415
    from labfleet.jobs.mending import mend as bring_together  # noqa: PLC0415
    from labfleet.protocols.store import ProtocolStore  # noqa: PLC0415

    settings = web_settings()
    stores = Stores(
        BlobStore(settings.web.store),
        LogStore(settings.web.store, settings.limits.log_bytes),
        ProtocolStore(settings.web.protocols),
    )
    stores.blobs.prepare()
    stores.logs.prepare()
    engine = make_engine(settings.database, credential("database_password"))
    try:
        with session_factory(engine).begin() as session:
            found = find(session, stores, read=read)
            _tell(found)
            if mend:
                bring_together(session, stores, found, max_attempts=settings.leases.max_attempts)
    finally:
        engine.dispose()
    if mend and not found.nothing:
        click.echo(f"mended: {len(found.tasks)} tasks run again, {len(found.logs)} logs in order")
    if found.beyond_mending or not (found.nothing or mend):
        sys.exit(FAULTS)


@store.command()
@click.option("--dry-run", is_flag=True, help="Only tell what would be removed.")
@click.option(
    "--hours",
    type=click.FloatRange(min=1),
    help="Spare what somebody has wanted or stored within so many hours. Without it the setting [data] "
    "grace_hours counts.",
)
@click.option(
    "--unused-days",
    type=click.IntRange(min=0),
    help="Delete datasets older than this that no job takes and that have no label 'keep'; 0: none. "
    "Without it the setting [data] unused_days counts.",
)
@click.option(
    "--max-strays",
    type=click.IntRange(min=0),
    help="Remove nothing where the store has more files than this that the database does not know. Without "
    "it the setting [data] max_strays counts.",
)
def sweep(dry_run: bool, hours: float | None, unused_days: int | None, max_strays: int | None) -> None:
    """Remove contents that no dataset and no result points to any more; safe while the lab works.

    What nobody wants any more is noted, and removed by the first sweep after the hours that it is spared.
    """
    from labfleet.datasets.store import BlobStore  # noqa: PLC0415
    from labfleet.datasets.sweep import sweep as remove  # noqa: PLC0415
    from labfleet.db.engine import make_engine, session_factory  # noqa: PLC0415

    settings = web_settings()
    section = settings.data
    days = section.unused_days if unused_days is None else unused_days
    spared_hours = section.grace_hours if hours is None else hours
    engine = make_engine(settings.database, credential("database_password"))
    files = BlobStore(settings.web.store)
    files.prepare()
    try:
        swept = remove(
            session_factory(engine),
            files,
            hours=spared_hours,
            unused_days=days,
            dry_run=dry_run,
            max_strays=section.max_strays if max_strays is None else max_strays,
        )
    finally:
        engine.dispose()
    for dataset in swept.datasets:
        click.echo(f"dataset {dataset.id} '{dataset.name}' of {dataset.created_at:%Y-%m-%d}: no job takes it")
    click.echo(
        f"{'would remove' if dry_run else 'removed'}: {len(swept.datasets)} datasets, "
        f"{swept.contents} contents, {swept.strays} strays, {swept.bytes} bytes; "
        f"{swept.spared} contents are wanted by nobody, and spared until that is so for "
        f"{spared_hours:g} hours"
    )


def _tell(found: mending.Findings) -> None:
    for dataset in found.datasets:
        click.echo(f"dataset {dataset.id} '{dataset.name}': its file {dataset.sha256} is missing")
    for version in found.versions:
        click.echo(f"protocol {version}: missing in its repository")
    for task in found.tasks:
        click.echo(f"task {task}: a result's file is missing")
    for log in found.logs:
        known = "which is unknown" if log.known is None else f"{log.known} expected"
        click.echo(f"log of task {log.task}, attempt {log.attempt}: {log.size} bytes, {known}")
    if found.nothing:
        click.echo("ok: every file is there")


COMMANDS: list[click.Command] = [store]
