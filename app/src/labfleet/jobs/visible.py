"""Who may look at a job, who may change it, and what of it is its owner's alone: decided here, nowhere else.

There are two questions. `get_job_row`, `get_task` and `owned` are for the owner, and an admin: whatever
changes something asks them, and so does what shows what is the owner's alone. `read_job`, `read_task`,
`read_artifact` and the conditions on lists let in also those with whom the job is shared, and everybody where
it is public; they are for looking only. What is not for the viewer is `NotFound`; who may look and not change
is told so (`Forbidden`).
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, SQLColumnExpression, Uuid, and_, any_, func, or_, select, true
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session, joinedload, undefer

from labfleet.db.models import Artifact, Job, JobShare, ProtocolVersion, Task, User
from labfleet.errors import Forbidden, NotFound
from labfleet.users import sharing

PRIVATE = ("note", "webhook", "mail")
"""What a specification says for its owner alone: whoever else may look at the job is not told."""


class Whose(StrEnum):
    """Which jobs a list is of: the viewer's own, those of others shared with him by name or group, those that
    are public (his own too), or all that he may look at."""

    MINE = "mine"
    SHARED = "shared"
    PUBLIC = "public"
    ALL = "all"


def owned(viewer: User) -> ColumnElement[bool]:
    """The condition on `Job` of what the viewer may change: his own, for an admin all."""
    return true() if viewer.is_admin else Job.owner_id == viewer.id


def among(viewer: User, whose: Whose) -> list[SQLColumnExpression[bool]]:
    """Conditions on `Job` of which one has to hold. Of each by itself an index finds the jobs."""
    match whose:
        case Whose.MINE:
            return [Job.owner_id == viewer.id]
        case Whose.SHARED:
            return [and_(Job.owner_id != viewer.id, _given(viewer))]
        case Whose.PUBLIC:
            return [Job.public]
        case Whose.ALL:
            return [true()] if viewer.is_admin else [Job.owner_id == viewer.id, Job.public, _given(viewer)]


def readable(viewer: User) -> ColumnElement[bool]:
    """The condition on `Job` of all that the viewer may look at."""
    return or_(*among(viewer, Whose.ALL))


def _given(viewer: User) -> ColumnElement[bool]:
    """What is shared with the viewer. An array of ids is taken by the jobs' index, also within an `or`."""
    ids = select(JobShare.job_id).where(sharing.given_to(viewer, JobShare))
    return Job.id == any_(func.array(ids.scalar_subquery(), type_=ARRAY(Uuid)))


def may_change(viewer: User, job: Job) -> bool:
    """Whether the viewer does with the job as he likes."""
    return sharing.may_change(viewer, job)


def note_is_for(viewer: User) -> ColumnElement[bool]:
    """The condition on `Job` that the viewer may read its note: no word of another's may find the job."""
    return owned(viewer)


def request_for(viewer: User, job: Job) -> Mapping[str, Any]:
    """The job's specification; without what is its owner's alone for others."""
    spec = dict(job.spec)
    return spec if may_change(viewer, job) else {key: spec[key] for key in spec if key not in PRIVATE}


def get_job_row(session: Session, viewer: User, job_id: uuid.UUID) -> Job:
    """The job with its owner, for who may change it; `NotFound`, `Forbidden`."""
    return _for_owner(viewer, read_job(session, viewer, job_id))


def get_task(session: Session, viewer: User, task_id: uuid.UUID) -> Task:
    """The task with its job and protocol version, for who may change it; `NotFound`, `Forbidden`."""
    task = read_task(session, viewer, task_id)
    _for_owner(viewer, task.job)
    return task


def _for_owner(viewer: User, job: Job) -> Job:
    if not may_change(viewer, job):
        raise Forbidden(
            f"The job belongs to '{job.owner.name}', who lets you look at it.",
            hint="Ask its owner, or submit the same as a job of yours.",
        )
    return job


def read_job(session: Session, viewer: User, job_id: uuid.UUID) -> Job:
    """The job with its owner, for who may look at it; `NotFound`."""
    statement = select(Job).where(Job.id == job_id, _may_look(viewer))
    options = (joinedload(Job.owner, innerjoin=True), undefer(Job.has_shares))
    statement = statement.options(*options).execution_options(populate_existing=True)
    job = session.scalars(statement).one_or_none()
    if job is None:
        raise NotFound(f"There is no job {job_id}.")
    return job


def read_task(session: Session, viewer: User, task_id: uuid.UUID) -> Task:
    """The task with its job and protocol version, for who may look at it; `NotFound`."""
    statement = select(Task).join(Task.job).where(Task.id == task_id, _may_look(viewer))
    statement = statement.options(joinedload(Task.job, innerjoin=True), with_protocol())
    task = session.scalars(statement.execution_options(populate_existing=True)).one_or_none()
    if task is None:
        raise NotFound(f"There is no task {task_id}.")
    return task


def _may_look(viewer: User) -> ColumnElement[bool]:
    """`readable`, for one job: without reading all that is shared with the viewer."""
    return sharing.visible_to(viewer, Job, JobShare)


def with_protocol() -> Any:
    """Load tasks with their protocol's version and name."""
    return joinedload(Task.protocol_version, innerjoin=True).joinedload(
        ProtocolVersion.protocol, innerjoin=True
    )


def read_artifact(session: Session, viewer: User, artifact_id: uuid.UUID) -> Artifact:
    """One artifact of a task that the viewer may look at; `NotFound`."""
    artifact = session.get(Artifact, artifact_id)
    if artifact is None:
        raise NotFound(f"There is no artifact {artifact_id}.")
    try:
        read_task(session, viewer, artifact.task_id)
    except NotFound:
        raise NotFound(f"There is no artifact {artifact_id}.") from None
    return artifact
