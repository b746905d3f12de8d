"""Database and store are brought together after one of them has lost something."""

from __future__ import annotations

import io
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session, sessionmaker

from labfleet.datasets.logs import LogStore
from labfleet.datasets.service import add_dataset
from labfleet.datasets.store import BlobStore
from labfleet.db.models import Artifact, Attempt, Blob, EventRow, Job, Task, User
from labfleet.jobs.mending import LogFile, Stores, find, mend
from labfleet.protocols.store import ProtocolStore

Tasks = Callable[..., list[uuid.UUID]]


@pytest.fixture
def stores(tmp_path: Path) -> Stores:
    found = Stores(BlobStore(tmp_path), LogStore(tmp_path, 1000), ProtocolStore(tmp_path / "protocols"))
    found.blobs.prepare()
    found.logs.prepare()
    return found


@pytest.fixture
def finished(
    sessions: sessionmaker[Session], user: User, make_tasks: Tasks, stores: Stores
) -> list[uuid.UUID]:
    """Two successful tasks, with a result and a log of 5 bytes each."""
    ids = make_tasks(user, 2)
    with sessions.begin() as session:
        for number, task in enumerate(ids):
            blob = stores.blobs.put(io.BytesIO(b"result %d" % number), limit=100)
            stores.logs.write(task, 1, 0, b"hello")
            session.add(Blob(sha256=blob.sha256, size=blob.size))
            session.add(Attempt(task_id=task, number=1, worker="w1", claim_id="c", log_size=5))
            session.flush()
            result = {"name": "out.txt", "kind": "text", "media_type": "text/plain"}
            session.add(Artifact(task_id=task, attempt=1, sha256=blob.sha256, size=blob.size, **result))
        session.execute(update(Task).values(state="success", cache_key="same"))
        session.execute(update(Job).values(state="success", tasks_queued=0, tasks_success=2))
    return ids


def faults(sessions: sessionmaker[Session], stores: Stores, *, read: bool = False) -> list[object]:
    with sessions() as session:
        found = find(session, stores, read=read)
        return [*found.datasets, *found.tasks, *found.logs]


def path_of(sessions: sessionmaker[Session], stores: Stores, task: uuid.UUID) -> Path:
    with sessions() as session:
        sha256 = session.scalars(select(Artifact.sha256).where(Artifact.task_id == task)).one()
    return stores.blobs.path(sha256)


def test_all_is_there(sessions: sessionmaker[Session], finished: list[uuid.UUID], stores: Stores) -> None:
    assert faults(sessions, stores, read=True) == []


def test_a_task_whose_result_is_missing_runs_again_and_is_not_reused(
    sessions: sessionmaker[Session], finished: list[uuid.UUID], stores: Stores
) -> None:
    lost, kept = finished
    path_of(sessions, stores, lost).unlink()
    assert faults(sessions, stores) == [lost]
    with sessions.begin() as session:
        mend(session, stores, find(session, stores), max_attempts=3)
    with sessions() as session:
        task, other = session.get_one(Task, lost), session.get_one(Task, kept)
        assert (task.state, task.attempt, task.ready, task.cache_key) == ("queued", 2, True, "same")
        assert (other.state, other.attempt) == ("success", 1)
        job = session.get_one(Job, task.job_id)
        assert (job.state, job.tasks_queued, job.tasks_success) == ("running", 1, 1)
        events = session.scalars(select(EventRow.event).where(EventRow.task_id == lost)).all()
        assert events == ["reopened"]
    assert faults(sessions, stores) == []


def test_content_is_compared_only_when_it_is_read(
    sessions: sessionmaker[Session], finished: list[uuid.UUID], stores: Stores
) -> None:
    path = path_of(sessions, stores, finished[0])
    path.chmod(0o600)
    path.write_bytes(b"rotten 0")
    assert faults(sessions, stores) == []
    assert faults(sessions, stores, read=True) == [finished[0]]
    path.write_bytes(b"short")
    assert faults(sessions, stores) == [finished[0]]


def test_a_dataset_is_named_and_comes_back_with_its_content(
    sessions: sessionmaker[Session], user: User, stores: Stores
) -> None:
    blob = stores.blobs.put(io.BytesIO(b"a,b\n1,2\n"), limit=100)
    with sessions.begin() as session:
        dataset = add_dataset(session, user, "table.csv", "text/csv", blob).id
    stores.blobs.path(blob.sha256).unlink()
    with sessions.begin() as session:
        found = find(session, stores)
        assert ([one.id for one in found.datasets], found.beyond_mending) == ([dataset], True)
    stores.blobs.put(io.BytesIO(b"a,b\n1,2\n"), limit=100)
    assert faults(sessions, stores) == []


def test_a_protocol_without_its_commit_is_named(
    sessions: sessionmaker[Session], finished: list[uuid.UUID], stores: Stores
) -> None:
    with sessions() as session:
        assert find(session, stores).versions == ["echo 1.0.0"]


def test_logs_are_cut_to_what_the_database_knows(
    sessions: sessionmaker[Session], finished: list[uuid.UUID], stores: Stores
) -> None:
    longer, shorter = finished
    stranger = uuid.uuid4()
    stores.logs.write(longer, 1, 5, b" and more")
    stores.logs.path(shorter, 1).write_bytes(b"he")
    stores.logs.write(stranger, 1, 0, b"of a task that was never accepted")
    (stores.logs.directory / "README").write_text("not ours")
    wanted = {LogFile(longer, 1, 14, 5), LogFile(shorter, 1, 2, 5), LogFile(stranger, 1, 33, None)}
    assert set(faults(sessions, stores)) == wanted
    with sessions.begin() as session:
        mend(session, stores, find(session, stores), max_attempts=3)
    assert faults(sessions, stores) == []
    assert stores.logs.path(longer, 1).read_bytes() == b"hello"
    assert not stores.logs.path(stranger, 1).exists()
    with sessions() as session:
        assert session.get_one(Attempt, (shorter, 1)).log_size == 2
    assert (stores.logs.directory / "README").exists()
