"""Who may see what: an owner their own jobs, an admin all. What is not for the viewer is `NotFound`."""

from __future__ import annotations

import uuid
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Select, select, true
from sqlalchemy.orm import Session, joinedload

from labfleet.db.models import Artifact, Job, ProtocolVersion, Task, User
from labfleet.errors import NotFound

S = TypeVar("S", bound=Select[*tuple[Any, ...]])


def visible(statement: S, viewer: User) -> S:
    """The statement (on `Job`) cut down to what the viewer may see."""
    return statement.where(visible_jobs(viewer))


def visible_jobs(viewer: User) -> ColumnElement[bool]:
    """The condition on `Job` of what the viewer may see."""
    return true() if viewer.is_admin else Job.owner_id == viewer.id


def get_job_row(session: Session, viewer: User, job_id: uuid.UUID) -> Job:
    """The job with its owner."""
    statement = visible(select(Job).where(Job.id == job_id), viewer).options(
        joinedload(Job.owner, innerjoin=True)
    )
    job = session.scalars(statement.execution_options(populate_existing=True)).one_or_none()
    if job is None:
        raise NotFound(f"There is no job {job_id}.")
    return job


def get_task(session: Session, viewer: User, task_id: uuid.UUID) -> Task:
    """The task with its job and protocol version."""
    statement = visible(select(Task).join(Task.job).where(Task.id == task_id), viewer).options(
        joinedload(Task.job, innerjoin=True), with_protocol()
    )
    task = session.scalars(statement.execution_options(populate_existing=True)).one_or_none()
    if task is None:
        raise NotFound(f"There is no task {task_id}.")
    return task


def with_protocol() -> Any:
    """Load tasks with their protocol's version and name."""
    return joinedload(Task.protocol_version, innerjoin=True).joinedload(
        ProtocolVersion.protocol, innerjoin=True
    )


def get_artifact(session: Session, viewer: User, artifact_id: uuid.UUID) -> Artifact:
    """One artifact of a task that the viewer may see."""
    artifact = session.get(Artifact, artifact_id)
    if artifact is None:
        raise NotFound(f"There is no artifact {artifact_id}.")
    try:
        get_task(session, viewer, artifact.task_id)
    except NotFound:
        raise NotFound(f"There is no artifact {artifact_id}.") from None
    return artifact
