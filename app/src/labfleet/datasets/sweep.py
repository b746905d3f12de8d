"""What nobody points to any more: contents of the store, and datasets that were never used.

A content may be wanted again at any moment, by an upload of the same bytes. Who stores one touches its row
(`touch`), which keeps the sweep from it; and a file is only removed after it was taken out of its place and
found to be an old one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from sqlalchemy import ARRAY, ColumnElement, Text, cast, delete, func, select
from sqlalchemy.dialects.postgresql import array, insert
from sqlalchemy.orm import Session, sessionmaker

from labfleet.datasets.store import BlobStore
from labfleet.db.models import Artifact, Blob, Dataset, Job

BATCH = 500
KEEP = "keep"
"""A dataset with this label is never too old."""


@dataclass
class Swept:
    """What was removed, or would be: old datasets, contents and their bytes, files that no row names."""

    datasets: list[Dataset] = field(default_factory=list)
    contents: int = 0
    strays: int = 0
    bytes: int = 0


def touch(session: Session, sha256: str, size: int) -> None:
    """Note a content that was just stored: for hours from now no sweep takes it."""
    again = {"created_at": func.clock_timestamp()}
    statement = insert(Blob).values(sha256=sha256, size=size)
    session.execute(statement.on_conflict_do_update(index_elements=[Blob.sha256], set_=again))


def sweep(
    sessions: sessionmaker[Session], store: BlobStore, *, hours: float, unused_days: int, dry_run: bool
) -> Swept:
    """Remove datasets older than `unused_days` that no job takes (0: none), then contents that nobody points
    to and nobody has stored for `hours`. With `dry_run` only tell."""
    swept = Swept()
    with sessions() as session:
        swept.datasets = list(too_old(session, unused_days))
    for dataset in [] if dry_run else swept.datasets:
        with sessions.begin() as session:
            # A job that is just being submitted is waited for, and seen by the next statement.
            session.execute(select(Dataset.id).where(Dataset.id == dataset.id).with_for_update())
            session.execute(delete(Dataset).where(Dataset.id == dataset.id, *_unused(unused_days)))
    _contents(sessions, swept, hours, [each.id for each in swept.datasets] if dry_run else [])
    if dry_run:
        _count_strays(sessions, store, swept, hours)
        return swept
    while contents := _take(sessions, hours):
        for sha256 in contents:
            _remove(store.path(sha256), store.tmp, hours)
    for path in _strays(sessions, store, hours):
        size = path.stat().st_size
        if _remove(path, store.tmp, hours):
            swept.strays += 1
            swept.bytes += size
    return swept


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


def _unwanted(hours: float, but: Sequence[object] = ()) -> tuple[ColumnElement[bool], ...]:
    """The condition on `Blob`; datasets in `but` do not count."""
    wanted = select(Dataset.id).where(Dataset.sha256 == Blob.sha256, Dataset.id.not_in(but)).exists()
    result = select(Artifact.id).where(Artifact.sha256 == Blob.sha256).exists()
    return (Blob.created_at < func.clock_timestamp() - timedelta(hours=hours), ~wanted, ~result)


def _contents(sessions: sessionmaker[Session], swept: Swept, hours: float, but: Sequence[object]) -> None:
    with sessions() as session:
        counted = select(func.count(), func.coalesce(func.sum(Blob.size), 0)).where(*_unwanted(hours, but))
        swept.contents, size = session.execute(counted).one()
        swept.bytes += int(size)


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
    return path.stat().st_mtime < time.time() - hours * 3600


def _strays(sessions: sessionmaker[Session], store: BlobStore, hours: float) -> Iterator[Path]:
    """Files that no row names: an upload that broke off after its file was there."""
    for folder in sorted(store.blobs.iterdir()):
        files = {f"{folder.name}{path.name}": path for path in folder.iterdir() if _old(path, hours)}
        with sessions() as session:
            known = set(session.scalars(select(Blob.sha256).where(Blob.sha256.in_(files))))
        yield from (path for sha256, path in files.items() if sha256 not in known)


def _count_strays(sessions: sessionmaker[Session], store: BlobStore, swept: Swept, hours: float) -> None:
    for path in _strays(sessions, store, hours):
        swept.strays += 1
        swept.bytes += path.stat().st_size
