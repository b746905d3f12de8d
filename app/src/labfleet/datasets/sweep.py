"""What nobody points to any more: contents of the store, and datasets that were never used.

A sweep notes since when nobody wants a content, and removes what nobody has wanted for the time of grace. It
is noted by the sweep and not where something is deleted, for much can let go of a content: a dataset, a job
with all its tasks, an admin. So a content stays for at least that time, and until the next sweep after it.

A content may be wanted again at any moment, by an upload of the same bytes. Who stores one touches its row
(`touch`), which keeps the sweep from it; and a file is only removed after it was taken out of its place and
found to be an old one.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice
from pathlib import Path

from sqlalchemy import ARRAY, ColumnElement, Text, cast, delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import array, insert
from sqlalchemy.orm import Session, sessionmaker

from labfleet.datasets.store import BlobStore
from labfleet.db.models import Artifact, Blob, Dataset, Job
from labfleet.errors import Conflict

BATCH = 500
LOCK = ".sweep.lock"
KEEP = "keep"
"""A dataset with this label is never too old."""


@dataclass
class Swept:
    """What was removed, or would be: old datasets, contents and their bytes, files that no row names.
    `spared` are contents that nobody wants since too short a time."""

    datasets: list[Dataset] = field(default_factory=list)
    contents: int = 0
    strays: int = 0
    bytes: int = 0
    spared: int = 0


def touch(session: Session, sha256: str, size: int) -> None:
    """Note a content that was just stored: for hours from now no sweep takes it."""
    again = {"created_at": func.clock_timestamp(), "unwanted_since": None}
    statement = insert(Blob).values(sha256=sha256, size=size)
    session.execute(statement.on_conflict_do_update(index_elements=[Blob.sha256], set_=again))


class TooManyStrays(Conflict):
    """The store has files that the database does not know, more than uploads leave that broke off."""

    code = "too_many_strays"
    title = "The database does not know files of the store"
    default_hint = (
        "Is it the right database, and the right moment of it? 'labfleet-admin store sweep --dry-run' counts "
        "them, 'labfleet-admin store check' says what is missing. To remove them: '--max-strays NUMBER'."
    )


def sweep(
    sessions: sessionmaker[Session],
    store: BlobStore,
    *,
    hours: float,
    unused_days: int,
    dry_run: bool,
    max_strays: int,
) -> Swept:
    """Remove datasets older than `unused_days` that no job takes (0: none), then contents that nobody has
    pointed to and nobody has stored for `hours`. With `dry_run` only tell.

    More than `max_strays` files that no row names are `TooManyStrays`, and nothing is removed. `Conflict`
    while another sweep is under way.
    """
    swept = Swept()
    if dry_run:
        return _foretell(sessions, store, swept, hours, unused_days)
    with _alone(store):
        strays = list(islice(_strays(sessions, store, hours), max_strays + 1))
        if len(strays) > max_strays:
            raise TooManyStrays(
                f"More than {max_strays} files of {store.blobs} are not known to the database."
            )
        _delete_unused(sessions, swept, unused_days)
        _mark(sessions)
        _count(sessions, swept, hours)
        while contents := _take(sessions, hours):
            for sha256 in contents:
                _remove(store.path(sha256), store.tmp, hours)
        for path in strays:
            size = path.stat().st_size if path.exists() else 0
            if _remove(path, store.tmp, hours):
                swept.strays += 1
                swept.bytes += size
    return swept


def _foretell(
    sessions: sessionmaker[Session], store: BlobStore, swept: Swept, hours: float, unused_days: int
) -> Swept:
    with sessions() as session:
        swept.datasets = list(too_old(session, unused_days))
    _count(sessions, swept, hours)
    for path in _strays(sessions, store, hours):
        swept.strays += 1
        swept.bytes += path.stat().st_size
    return swept


@contextmanager
def _alone(store: BlobStore) -> Iterator[None]:
    """No other sweep runs meanwhile, also of another webserver that shares the store."""
    with (store.root / LOCK).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict("Another sweep is under way.", hint="Wait until it has ended.") from None
        yield


def _delete_unused(sessions: sessionmaker[Session], swept: Swept, days: int) -> None:
    with sessions() as session:
        swept.datasets = list(too_old(session, days))
    for dataset in swept.datasets:
        with sessions.begin() as session:
            # A job that is just being submitted is waited for, and seen by the next statement.
            session.execute(select(Dataset.id).where(Dataset.id == dataset.id).with_for_update())
            session.execute(delete(Dataset).where(Dataset.id == dataset.id, *_unused(days)))


def too_old(session: Session, days: int) -> Sequence[Dataset]:
    """Datasets older than so many days that no job takes, without the label `keep`; none for 0 days."""
    if days <= 0:
        return []
    return session.scalars(select(Dataset).where(*_unused(days)).order_by(Dataset.created_at)).all()


def _unused(days: int) -> tuple[ColumnElement[bool], ...]:
    taken = select(Job.id).where(Job.datasets.contains(array([cast(Dataset.id, Text)]))).exists()
    return (
        Dataset.created_at < func.clock_timestamp() - timedelta(days=days),
        ~Dataset.labels.contains(cast([KEEP], ARRAY(Text))),
        ~taken,
    )


def _wanted() -> ColumnElement[bool]:
    """The condition on `Blob`: a dataset or a result points to it."""
    dataset = select(Dataset.id).where(Dataset.sha256 == Blob.sha256).exists()
    return or_(dataset, select(Artifact.id).where(Artifact.sha256 == Blob.sha256).exists())


def _unwanted(hours: float) -> tuple[ColumnElement[bool], ...]:
    """The condition on `Blob`: nobody has wanted it for so long, and nobody has stored it."""
    then = func.clock_timestamp() - timedelta(hours=hours)
    return Blob.unwanted_since < then, Blob.created_at < then, ~_wanted()


def _mark(sessions: sessionmaker[Session]) -> None:
    """Note of contents that nobody wants any more since when that is; no more of those that are wanted again.

    What somebody stores just now is passed over.
    """
    for condition, since in (
        ((Blob.unwanted_since.is_not(None), _wanted()), None),
        ((Blob.unwanted_since.is_(None), ~_wanted()), func.clock_timestamp()),
    ):
        found = select(Blob.sha256).where(*condition).with_for_update(skip_locked=True, of=Blob)
        with sessions.begin() as session:
            session.execute(
                update(Blob).where(Blob.sha256.in_(found)).values(unwanted_since=since),
                execution_options={"synchronize_session": False},
            )


def _count(sessions: sessionmaker[Session], swept: Swept, hours: float) -> None:
    with sessions() as session:
        counted = select(func.count(), func.coalesce(func.sum(Blob.size), 0)).where(*_unwanted(hours))
        swept.contents, size = session.execute(counted).one()
        swept.bytes += int(size)
        unwanted = session.scalar(select(func.count()).select_from(Blob).where(~_wanted())) or 0
        swept.spared = max(unwanted - swept.contents, 0)


def _take(sessions: sessionmaker[Session], hours: float) -> list[str]:
    """Forget some contents that nobody wants; who stores one again meanwhile waits, and gets a new row."""
    with sessions.begin() as session:
        some = select(Blob.sha256).where(*_unwanted(hours)).limit(BATCH).with_for_update(skip_locked=True)
        gone = delete(Blob).where(Blob.sha256.in_(session.scalars(some).all()), *_unwanted(hours))
        return list(session.scalars(gone.returning(Blob.sha256)))


def _remove(path: Path, aside: Path, hours: float) -> bool:
    """Remove a file unless it is a new one: who stores the same content puts a new file in its place."""
    taken = aside / f"swept-{path.parent.name}{path.name}"
    try:
        path.replace(taken)
    except FileNotFoundError:
        return False
    if _old(taken, hours):
        taken.unlink()
        return True
    taken.replace(path)
    return False


def _old(path: Path, hours: float) -> bool:
    """Whether the file was stored so long ago; not, if it has gone meanwhile."""
    try:
        return path.stat().st_mtime < time.time() - hours * 3600
    except FileNotFoundError:
        return False


def _strays(sessions: sessionmaker[Session], store: BlobStore, hours: float) -> Iterator[Path]:
    """Files that no row names: an upload that broke off after its file was there."""
    for folder in sorted(store.blobs.iterdir()):
        files = {f"{folder.name}{path.name}": path for path in folder.iterdir() if _old(path, hours)}
        with sessions() as session:
            known = set(session.scalars(select(Blob.sha256).where(Blob.sha256.in_(files))))
        yield from (path for sha256, path in files.items() if sha256 not in known)
