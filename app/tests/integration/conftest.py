"""A real PostgreSQL: one database per process of pytest-xdist, migrated once, emptied before each test."""

from __future__ import annotations

import os
import secrets
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher
from resident import Residents
from sqlalchemy import URL, Engine, create_engine, insert, make_url, text
from sqlalchemy.orm import Session, sessionmaker

from labfleet.db.engine import engine_for, session_factory
from labfleet.db.models import Base, Blob, Dataset, Job, Protocol, ProtocolVersion, Task, User, WorkerRow
from labfleet.db.upgrade import upgrade
from labfleet.users import service as users

VARIABLE = "LABFLEET_TEST_DATABASE"
NEEDS = ("key", "cores", "memory_bytes", "wall_seconds", "tags")
MANIFEST: dict[str, Any] = {
    "labfleet": 1,
    "name": "echo",
    "version": "1.0.0",
    "title": "Echo",
    "key": "python",
    "command": ["python3", "main.py"],
    "parameters": {
        "type": "object",
        "properties": {"text": {"type": "string", "default": "hello"}, "times": {"type": "integer"}},
        "additionalProperties": False,
    },
    "inputs": {"data": {"title": "Data", "optional": True}},
    "outputs": {"out": {"path": "out.txt", "kind": "text", "title": "Out"}},
    "needs": {"cores": 1, "memory": "256M", "time": "1m"},
}


@pytest.fixture(scope="session", autouse=True)
def _cheap_passwords() -> Iterator[None]:
    """The same algorithm at its smallest cost: with the real one, passwords were a third of the pages' tests.

    `tests/unit/users/test_cost.py` asks for the real one, and so does every sign-in on a deployed lab.
    """
    cheap = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(users, "_hasher", lambda: cheap)
        yield


@pytest.fixture(scope="session")
def database_url() -> Iterator[URL]:
    """The URL of a new, migrated database, dropped at the end."""
    server = os.environ.get(VARIABLE)
    if not server:
        pytest.fail(
            f"{VARIABLE} is not set. Set it to a PostgreSQL URL of a role that may create databases, e.g. "
            "postgresql://postgres:secret@127.0.0.1:5432/postgres.",
            pytrace=False,
        )
    admin = create_engine(make_url(server).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    name = f"labfleet_test_{secrets.token_hex(6)}"
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield admin.url.set(database=name)
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.fixture(scope="session")
def _migrated(database_url: URL) -> Iterator[Engine]:
    engine = engine_for(database_url, pool_size=20)  # PostgreSQL lets in 100 by default, for all of xdist
    upgrade(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def engine(_migrated: Engine) -> Engine:
    """An engine on an empty database."""
    # TRUNCATE makes new files for each table and index: a hundred times as long for the few rows of a test.
    deletes = "; ".join(f"DELETE FROM {table.name}" for table in reversed(Base.metadata.sorted_tables))
    with _migrated.begin() as connection:
        connection.execute(text(f"DO $$ BEGIN {deletes}; END $$"))
    return _migrated


@pytest.fixture
def sessions(engine: Engine) -> sessionmaker[Session]:
    """Makes sessions; commit with `with sessions.begin() as session`."""
    return session_factory(engine)


@pytest.fixture
def residents(tmp_path: Path) -> Iterator[Residents]:
    """Starts resident processes as systemd does."""
    residents = Residents(tmp_path)
    yield residents
    residents.close()


@pytest.fixture
def make_user(sessions: sessionmaker[Session]) -> Callable[..., User]:
    """`make_user(name, is_admin=False)`: an account without a password, so without its cost."""

    def make(name: str = "ada", *, is_admin: bool = False) -> User:
        user = User(name=name, password_hash="!", is_admin=is_admin)
        with sessions.begin() as session:
            session.add(user)
        return user

    return make


@pytest.fixture
def user(make_user: Callable[..., User]) -> User:
    return make_user()


@pytest.fixture
def admin(make_user: Callable[..., User]) -> User:
    return make_user("root", is_admin=True)


@pytest.fixture
def protocol(sessions: sessionmaker[Session]) -> ProtocolVersion:
    """Version 1.0.0 of the protocol `echo`, as `MANIFEST` describes it."""
    row = Protocol(name="echo", title="Echo")
    version = ProtocolVersion(commit="a" * 40, version="1.0.0", manifest=MANIFEST)
    row.versions.append(version)
    with sessions.begin() as session:
        session.add(row)
    return version


@pytest.fixture
def make_dataset(sessions: sessionmaker[Session]) -> Callable[[User], uuid.UUID]:
    """A dataset's row (its bytes don't matter to the database)."""

    def make(owner: User) -> uuid.UUID:
        sha = secrets.token_hex(32)
        dataset = Dataset(owner_id=owner.id, name="data.csv", sha256=sha, size=3)
        with sessions.begin() as session:
            session.add(Blob(sha256=sha, size=3))
            session.flush()
            session.add(dataset)
        return dataset.id

    return make


@pytest.fixture
def make_worker(sessions: sessionmaker[Session]) -> Callable[..., str]:
    """`make_worker(name, **columns)`: a live, idle worker that serves python; its name."""

    def make(name: str = "w1", **columns: Any) -> str:
        values = {
            "keys": ["python"],
            "slots": 2,
            "free_slots": 2,
            "cores": 2,
            "load1": 0,
            "memory_total": 4 * 1024**3,
            "memory_free": 4 * 1024**3,
            "disk_free": 1024**3,
            "version": "1",
        }
        with sessions.begin() as session:
            session.add(WorkerRow(name=name, **values | columns))
        return name

    return make


@pytest.fixture
def make_tasks(sessions: sessionmaker[Session], protocol: ProtocolVersion) -> Callable[..., list[uuid.UUID]]:
    """`make_tasks(owner, count, **columns)`: tasks of one job in one lane, without what submitting costs."""

    def make(owner: User, count: int = 1, **columns: Any) -> list[uuid.UUID]:
        needs = {
            "key": "python",
            "cores": 1,
            "memory_bytes": 2**20,
            "wall_seconds": 600,
            "tags": [],
        } | columns
        common = {
            "owner_id": owner.id,
            "protocol_version_id": protocol.id,
            "lane": str(sorted((name, needs[name]) for name in NEEDS)),
            "parameters": {},
            "inputs": {},
        }
        with sessions.begin() as session:
            job = Job(owner_id=owner.id, spec={}, tasks_total=count, tasks_queued=count)
            session.add(job)
            session.flush()
            rows = [common | needs | {"job_id": job.id, "name": f"t{number}"} for number in range(count)]
            statement = insert(Task).returning(Task.id, sort_by_parameter_order=True)
            return list(session.scalars(statement, rows))

    return make
