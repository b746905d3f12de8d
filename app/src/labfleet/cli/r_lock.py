"""`labfleet protocols lock-r`: the SHA-256 of each tarball into a lock file that renv has written."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from labfleet.errors import Invalid

if TYPE_CHECKING:
    from labfleet.protocols.cran import Found

CRAN = "https://cloud.r-project.org"


class NotLocked(Invalid):
    """A tarball can't be had, so the lock file stays as it is."""

    code = "not_locked"
    title = "The lock file can't be completed"
    default_hint = "Name an index that has it (--index), or put its tarball into the directory (--tarballs)."


@click.command("lock-r")
@click.argument("lock", type=click.Path(exists=True, dir_okay=False, path_type=Path), default="renv.lock")
@click.option("--index", "indexes", metavar="URL", multiple=True, help=f"An index; repeatable. Else {CRAN}.")
@click.option(
    "--tarballs",
    metavar="DIRECTORY",
    type=click.Path(file_okay=False, path_type=Path),
    help="Take tarballs that lie here, and keep all here, to come along with the protocol.",
)
def lock_r(lock: Path, indexes: tuple[str, ...], tarballs: Path | None) -> None:
    """Write the SHA-256 of each R package's tarball into LOCK (renv.lock).

    renv::snapshot() writes the lock file, but no hash of what is installed; a protocol needs them. Name the
    indexes that your lab's workers ask. A hash that is there is kept, and compared with what is fetched.
    """
    # Imported where they are needed: the other verbs for protocols do without.
    from labfleet.protocols import cran, renvlock  # noqa: PLC0415

    pins = renvlock.read_lock(str(lock), lock.read_bytes(), hashed=False).pins
    wanted = [cran.Wanted(pin.name, pin.version, pin.sha256) for pin in pins if tarballs or not pin.sha256]
    asked = [] if all(pin.local for pin in pins) else list(indexes or (CRAN,))
    with tempfile.TemporaryDirectory(prefix="labfleet-lock-") as name:
        fetcher = cran.Fetcher(str(tarballs) if tarballs else "", asked, Path(name))
        found, faults = fetcher.fetch(wanted)
        if faults:
            raise NotLocked("\n".join(fault.message for fault in faults))
        if tarballs:
            tarballs.mkdir(parents=True, exist_ok=True)
            for item in found:
                shutil.copyfile(Path(name, item.file), tarballs / item.file)
    _write(lock, found)
    click.echo(f"{lock}: {len(pins)} packages, {len(found)} hashed now")


def _write(lock: Path, found: Iterable[Found]) -> None:
    document = json.loads(lock.read_text(encoding="utf-8"))
    for item in found:
        document["Packages"][item.name]["SHA256"] = item.sha256
    beside = lock.with_name(f"{lock.name}.new")
    beside.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    beside.replace(lock)
