from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from labfleet.db.models import ProtocolVersion, Task, User
from labfleet.jobs import attempts, service
from labfleet.jobs.spec import JobSpec

LEASE = 60.0


@pytest.fixture
def submit(
    sessions: sessionmaker[Session], user: User, protocol: ProtocolVersion
) -> Callable[..., uuid.UUID]:
    """Submit a job of `echo` and commit; its only task's id."""

    def submit(**options: int) -> uuid.UUID:
        with sessions.begin() as session:
            job = service.submit(session, user, JobSpec(protocol="echo"), **options)
            return session.scalars(select(Task.id).where(Task.job_id == job.id)).one()

    return submit


@pytest.fixture
def claimed(sessions: sessionmaker[Session], submit: Callable[..., uuid.UUID]) -> Callable[..., uuid.UUID]:
    """As `submit`, and attempt 1 is claimed by worker w1 with claim c1."""

    def claimed(**options: int) -> uuid.UUID:
        task_id = submit(**options)
        with sessions.begin() as session:
            attempts.claim(session, task_id, 1, "w1", "c1", lease_seconds=LEASE)
        return task_id

    return claimed


@pytest.fixture
def task(sessions: sessionmaker[Session]) -> Callable[[uuid.UUID], Task]:
    """Read a task as it is in the database now."""

    def read(task_id: uuid.UUID) -> Task:
        with sessions() as session:
            return session.get_one(Task, task_id)

    return read
