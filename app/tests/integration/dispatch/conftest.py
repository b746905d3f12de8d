from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from labfleet.config import DispatcherSection, OrderSection
from labfleet.db.models import EventRow, ProtocolVersion, Task, User
from labfleet.dispatch.batch import Courier, dispatch_batch
from labfleet.dispatch.release import release
from labfleet.dispatch.runner_client import Message, Runner, RunnerUnavailable, Status, Target
from labfleet.jobs import service
from labfleet.jobs.spec import JobSpec

SECTION = DispatcherSection(runner_urls=["http://127.0.0.1:9"], batch_size=50, poll_seconds=0.2)


class FakeRunner:
    """A queue tier that does as it is told and remembers what it got."""

    def __init__(self) -> None:
        self.got: list[tuple[str, Message]] = []
        self.status: Status | None = Status.CONFIRMED
        self.while_sending: Callable[[], object] = lambda: None

    def send(self, verb: str, messages: Sequence[Message]) -> Mapping[Target, Status]:
        self.got += [(verb, message) for message in messages]
        self.while_sending()
        if self.status is None:
            raise RunnerUnavailable("the queue tier is away")
        return {(uuid.UUID(m["task"]), m["attempt"]): self.status for m in messages}


@pytest.fixture
def runner() -> FakeRunner:
    return FakeRunner()


@pytest.fixture
def make_courier() -> Callable[[Runner], Courier]:
    return lambda runner: Courier(runner, ["signing-key"], SECTION)


@pytest.fixture
def dispatch(
    sessions: sessionmaker[Session], runner: FakeRunner, make_courier: Callable[[Runner], Courier]
) -> Callable[[], int]:
    """One turn of the dispatcher: place what the fleet can take, send one batch; how many it picked."""

    def dispatch() -> int:
        with sessions.begin() as session:
            release(session, OrderSection())
        with sessions.begin() as session:
            return dispatch_batch(session, make_courier(runner))

    return dispatch


@pytest.fixture
def submit(
    sessions: sessionmaker[Session], user: User, protocol: ProtocolVersion
) -> Callable[..., uuid.UUID]:
    def submit(**options: int) -> uuid.UUID:
        with sessions.begin() as session:
            job = service.submit(session, user, JobSpec(protocol="echo"), **options)
            return session.scalars(select(Task.id).where(Task.job_id == job.id)).one()

    return submit


@pytest.fixture
def task(sessions: sessionmaker[Session]) -> Callable[[uuid.UUID], Task]:
    def read(task_id: uuid.UUID) -> Task:
        with sessions() as session:
            return session.get_one(Task, task_id)

    return read


@pytest.fixture
def events(sessions: sessionmaker[Session]) -> Callable[[uuid.UUID], list[str]]:
    """What happened to a task, in order."""

    def events(task_id: uuid.UUID) -> list[str]:
        with sessions() as session:
            statement = select(EventRow.event).where(EventRow.task_id == task_id).order_by(EventRow.id)
            return list(session.scalars(statement))

    return events
