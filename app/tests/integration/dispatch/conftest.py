from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence

import pytest
from sqlalchemy.orm import Session, sessionmaker

from labfleet.config import DispatcherSection
from labfleet.db.models import ProtocolVersion, Task, User
from labfleet.dispatch.batch import Courier
from labfleet.dispatch.runner_client import Message, Runner, RunnerUnavailable, Status, Target
from labfleet.jobs import service

SECTION = DispatcherSection(runner_url="http://127.0.0.1:9", batch_size=50, poll_seconds=0.2)


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
def submit(
    sessions: sessionmaker[Session], user: User, protocol: ProtocolVersion
) -> Callable[..., uuid.UUID]:
    def submit(**options: int) -> uuid.UUID:
        with sessions.begin() as session:
            return service.submit(session, user, service.JobRequest("echo"), **options).tasks[0].id

    return submit


@pytest.fixture
def task(sessions: sessionmaker[Session]) -> Callable[[uuid.UUID], Task]:
    def read(task_id: uuid.UUID) -> Task:
        with sessions() as session:
            return session.get_one(Task, task_id)

    return read
