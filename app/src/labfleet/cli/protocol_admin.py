"""`labfleet protocol`: the admin's verbs for the catalogue, run on the webserver."""

from __future__ import annotations

from pathlib import Path

import click

from labfleet.config import credential, web_settings
from labfleet.protocols.check import check_tree

Directory = click.Path(exists=True, file_okay=False, path_type=Path)


@click.group()
def protocol() -> None:
    """Take protocols into this server's catalogue (on the webserver)."""


@protocol.command()
@click.argument("directory", type=Directory)
def check(directory: Path) -> None:
    """Check the protocol in DIRECTORY without keeping it. Exit code 1 if it has faults."""
    report = check_tree(directory)
    manifest = report.require()
    click.echo(f"{manifest.name} {manifest.version}: {report.files} files, no fault found")


@protocol.command("import")
@click.argument("directories", metavar="DIRECTORY…", type=Directory, nargs=-1, required=True)
def import_(directories: tuple[Path, ...]) -> None:
    """Keep the protocol in each DIRECTORY as the version that its protocol.yml names.

    Prints `imported NAME VERSION COMMIT`, or `unchanged …` when the version is there with the same
    content. The same version with other content is an error: versions don't change.
    """
    # Here, so that a machine without git or database libraries still has the other verbs.
    from labfleet.db.engine import make_engine, session_factory  # noqa: PLC0415
    from labfleet.protocols.service import import_protocol  # noqa: PLC0415
    from labfleet.protocols.store import ProtocolStore  # noqa: PLC0415

    settings = web_settings()
    store = ProtocolStore(settings.web.protocols)
    engine = make_engine(settings.database, credential("database_password"))
    try:
        for directory in directories:
            with session_factory(engine).begin() as session:
                version, changed = import_protocol(session, store, directory)
            word = "imported" if changed else "unchanged"
            click.echo(f"{word} {version.manifest.name} {version.manifest.version} {version.commit}")
    finally:
        engine.dispose()


@protocol.command()
def gc() -> None:
    """Pack repositories anew that have become slow, and forget what no version needs (git gc).

    Safe while the lab works; a backup that runs is waited for. A repository that somebody pushes to has its
    turn the next time.
    """
    from labfleet.db.engine import make_engine, session_factory  # noqa: PLC0415
    from labfleet.errors import Unavailable  # noqa: PLC0415
    from labfleet.protocols.service import resized  # noqa: PLC0415
    from labfleet.protocols.store import ProtocolStore  # noqa: PLC0415

    settings = web_settings()
    section = settings.protocols
    store = ProtocolStore(settings.web.protocols)
    engine = make_engine(settings.database, credential("database_password"))
    packed = freed = 0
    try:
        for name in store.names():
            try:
                less = store.gc(
                    name, packs=section.gc_packs, loose=section.gc_loose, prune_days=section.gc_prune_days
                )
            except Unavailable as error:
                click.echo(f"left out {name}: {error.detail}")
                continue
            if less:
                packed, freed = packed + 1, freed + less
                with session_factory(engine).begin() as session:
                    resized(session, store, name)
                click.echo(f"packed {name}: {less} bytes less")
    finally:
        engine.dispose()
    click.echo(f"packed: {packed} repositories, {freed} bytes less")


COMMANDS: list[click.Command] = [protocol]
