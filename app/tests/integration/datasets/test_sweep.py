"""What nobody points to: deleting, keeping, sweeping, on a real database and a real store."""

from __future__ import annotations

import fcntl
import io
import os
import time
import uuid
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session, sessionmaker

from labfleet.datasets import service
from labfleet.datasets.store import BlobStore
from labfleet.datasets.sweep import Swept, TooManyStrays, sweep
from labfleet.db.models import Blob, Dataset, ProtocolVersion, User
from labfleet.errors import Conflict, LabfleetError, UnknownDataset
from labfleet.jobs.service import submit
from labfleet.jobs.spec import JobSpec

Sessions = sessionmaker[Session]
DAY = 24 * 3600


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    store = BlobStore(tmp_path / "store")
    store.prepare()
    return store


@pytest.fixture
def upload(sessions: Sessions, store: BlobStore, user: User) -> Callable[..., Dataset]:
    """`upload(content, days, **about)`: a dataset that came so many days ago."""

    def upload(content: bytes, days: float = 10, **about: object) -> Dataset:
        with sessions.begin() as db:
            blob = store.put(io.BytesIO(content), limit=1000)
            made = service.add_dataset(db, user, "a.csv", "", blob, about=about)
            then = func.clock_timestamp() - timedelta(days=days)
            db.execute(update(Dataset).where(Dataset.id == made.id).values(created_at=then))
            db.execute(update(Blob).where(Blob.sha256 == blob.sha256).values(created_at=then))
        old = time.time() - days * DAY
        os.utime(store.path(blob.sha256), (old, old))
        return made

    return upload


@pytest.fixture
def clean(sessions: Sessions, store: BlobStore) -> Callable[..., Swept]:
    def clean(days: int = 0, *, dry_run: bool = False, strays: int = 10) -> Swept:
        return sweep(sessions, store, hours=24, unused_days=days, dry_run=dry_run, max_strays=strays)

    return clean


def told(swept: Swept) -> tuple[int, int, int, int]:
    return len(swept.datasets), swept.contents, swept.strays, swept.bytes


def passes(sessions: Sessions, hours: float) -> None:
    """So much time goes by for what nobody wants."""
    with sessions.begin() as db:
        db.execute(update(Blob).values(unwanted_since=Blob.unwanted_since - timedelta(hours=hours)))


def remove(sessions: Sessions, user: User, dataset: uuid.UUID) -> None:
    with sessions.begin() as db:
        service.delete_dataset(db, user, dataset)


def test_a_content_goes_with_the_last_dataset_that_has_it(
    upload: Callable[..., Dataset],
    clean: Callable[..., Swept],
    sessions: Sessions,
    store: BlobStore,
    user: User,
) -> None:
    one, same, other = upload(b"same"), upload(b"same"), upload(b"other!")
    remove(sessions, user, one.id)
    assert told(clean()) == (0, 0, 0, 0)
    remove(sessions, user, same.id)
    # Stored long ago, and left just now.
    assert (told(clean(dry_run=True)), clean(dry_run=True).spared) == ((0, 0, 0, 0), 1)
    assert (told(clean()), clean().spared) == ((0, 0, 0, 0), 1)
    passes(sessions, 23)
    assert (told(clean()), clean().spared) == ((0, 0, 0, 0), 1)
    passes(sessions, 2)
    assert told(clean(dry_run=True)) == (0, 1, 0, 4)
    assert store.path(same.sha256).exists()
    assert told(clean()) == (0, 1, 0, 4)
    assert not store.path(same.sha256).exists() and store.path(other.sha256).exists()
    assert list(store.tmp.iterdir()) == []
    with sessions() as db:
        assert db.scalars(select(Blob.sha256)).all() == [other.sha256]


def test_what_is_young_or_stored_again_stays(
    upload: Callable[..., Dataset],
    clean: Callable[..., Swept],
    sessions: Sessions,
    store: BlobStore,
    user: User,
) -> None:
    young, old = upload(b"young", days=0.5), upload(b"old")
    for each in (young, old):
        remove(sessions, user, each.id)
    clean()
    passes(sessions, 30)
    with sessions.begin() as db:  # an upload of the same bytes that has come so far
        again = store.put(io.BytesIO(b"old"), limit=100)
        assert told(clean()) == (0, 1, 0, 3)
        assert store.path(again.sha256).read_bytes() == b"old"
        service.add_dataset(db, user, "again.csv", "", again)
    assert told(clean()) == (0, 0, 0, 0)
    assert store.path(young.sha256).exists() and store.path(old.sha256).exists()


def test_files_that_no_row_names_go(clean: Callable[..., Swept], store: BlobStore) -> None:
    stray, fresh = (store.put(io.BytesIO(content), limit=100) for content in (b"stray", b"fresh"))
    os.utime(store.path(stray.sha256), (0, 0))
    assert told(clean(dry_run=True)) == (0, 0, 1, 5)
    assert told(clean()) == (0, 0, 1, 5)
    assert not store.path(stray.sha256).exists() and store.path(fresh.sha256).exists()


def test_what_is_wanted_again_begins_anew(
    upload: Callable[..., Dataset],
    clean: Callable[..., Swept],
    sessions: Sessions,
    store: BlobStore,
    user: User,
) -> None:
    first = upload(b"again")
    remove(sessions, user, first.id)
    clean()
    passes(sessions, 30)
    # It has a dataset once more, also by a hand that stored nothing.
    with sessions.begin() as db:
        db.add(Dataset(owner_id=user.id, name="b.csv", media_type="text/csv", sha256=first.sha256, size=5))
    assert (told(clean()), clean().spared) == ((0, 0, 0, 0), 0)
    with sessions.begin() as db:
        db.execute(delete(Dataset))
    assert (told(clean()), clean().spared) == ((0, 0, 0, 0), 1)
    assert store.path(first.sha256).exists()


def test_many_files_that_the_database_does_not_know_are_left_alone(
    upload: Callable[..., Dataset],
    clean: Callable[..., Swept],
    sessions: Sessions,
    store: BlobStore,
    user: User,
) -> None:
    """As when a wrong database, or an old one, was put in its place."""
    left = upload(b"left")
    remove(sessions, user, left.id)
    clean()
    passes(sessions, 30)
    for number in range(3):
        os.utime(store.path(store.put(io.BytesIO(b"%d" % number), limit=9).sha256), (0, 0))
    with pytest.raises(TooManyStrays, match="More than 2 files"):
        clean(strays=2)
    assert store.path(left.sha256).exists()
    assert told(clean(strays=2, dry_run=True)) == (0, 1, 3, 7)
    assert told(clean(strays=3)) == (0, 1, 3, 7)


def test_one_sweep_at_a_time(clean: Callable[..., Swept], store: BlobStore) -> None:
    with (store.root / ".sweep.lock").open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(Conflict, match="Another sweep"):
            clean()
        assert told(clean(dry_run=True)) == (0, 0, 0, 0)
    assert told(clean()) == (0, 0, 0, 0)


def test_jobs_keep_what_they_take(
    upload: Callable[..., Dataset],
    clean: Callable[..., Swept],
    sessions: Sessions,
    user: User,
    make_user: Callable[..., User],
    protocol: ProtocolVersion,
) -> None:
    taken, free, kept = upload(b"taken"), upload(b"free"), upload(b"kept", labels=["keep"])
    with sessions.begin() as db:
        job = submit(db, user, JobSpec(protocol="echo", label="mine", inputs={"data": taken.id}))
    with pytest.raises(LabfleetError, match=f"mine \\({job.id}\\)") as refused:
        remove(sessions, user, taken.id)
    assert (refused.value.code, refused.value.extra["jobs"]) == ("dataset_in_use", [str(job.id)])
    with pytest.raises(UnknownDataset):
        remove(sessions, make_user("eve"), free.id)
    assert told(clean(9, dry_run=True)) == (1, 0, 0, 0)
    assert told(clean(11)) == (0, 0, 0, 0)
    swept = clean(9)
    assert [each.id for each in swept.datasets] == [free.id]
    assert swept.spared == 1
    with sessions() as db:
        assert set(db.scalars(select(Dataset.id))) == {taken.id, kept.id}
