"""Jobs as their owners see them: submit, look, list, cancel.

Every function takes a session and leaves the commit to its caller. What a viewer may not see is
`NotFound`. An admin sees everything.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Select, select, tuple_
from sqlalchemy.orm import Session, joinedload, selectinload

from labfleet.db.models import Artifact, EventRow, Job, ProtocolVersion, Task, User
from labfleet.errors import Invalid, NotFound, TaskFinal
from labfleet.jobs import outbox, submission, transition
from labfleet.jobs.states import Event, State
from labfleet.jobs.submission import JobRequest

__all__ = [
    "JobRequest",
    "Page",
    "cancel_job",
    "get_artifact",
    "get_job",
    "get_task",
    "list_jobs",
    "submit",
    "task_artifacts",
    "task_events",
]

S = TypeVar("S", bound=Select[*tuple[Any, ...]])

_TASKS = selectinload(Job.tasks).options(
    joinedload(Task.protocol_version, innerjoin=True).joinedload(ProtocolVersion.protocol, innerjoin=True)
)
_JOB = (_TASKS, joinedload(Job.owner, innerjoin=True))


@dataclass(frozen=True)
class Page:
    """One page of jobs, newest first; `next` goes into `after` for the following page, None at the end."""

    items: Sequence[Job]
    next: uuid.UUID | None


def submit(
    session: Session,
    owner: User,
    request: JobRequest,
    idempotency_key: str | None = None,
    *,
    max_attempts: int = 3,
) -> Job:
    """Check the request and make job, task, event and outbox row.

    The same key of the same owner returns the job that it made, however many ask at once.
    Raises `UnknownProtocol`, `UnknownVersion`, `UnknownDataset`, `InvalidParameters`,
    `InvalidInputs`, `Invalid`, or `IdempotencyMismatch` if the key was used for another request.
    """
    job_id = submission.submit(session, owner, request, idempotency_key, max_attempts)
    return get_job(session, owner, job_id)


def get_job(session: Session, viewer: User, job_id: uuid.UUID) -> Job:
    """The job with its tasks, their protocol versions and its owner; `NotFound` if it isn't the viewer's."""
    statement = _visible(select(Job).where(Job.id == job_id).options(*_JOB), viewer)
    job = session.scalars(statement.execution_options(populate_existing=True)).one_or_none()
    if job is None:
        raise NotFound(f"There is no job {job_id}.")
    return job


def list_jobs(
    session: Session,
    viewer: User,
    state: State | None = None,
    limit: int = 50,
    after: uuid.UUID | None = None,
) -> Page:
    """The viewer's jobs (all for an admin), newest first, `limit` a page, following the job `after`."""
    statement = _visible(select(Job).options(*_JOB), viewer)
    if state is not None:
        statement = statement.where(Job.state == state)
    if after is not None:
        mark = session.execute(select(Job.created_at, Job.id).where(Job.id == after)).one_or_none()
        if mark is None:
            raise Invalid(f"'after' names no job: {after}.", hint="Use the value of 'next' as it came.")
        statement = statement.where(tuple_(Job.created_at, Job.id) < mark)
    statement = statement.order_by(Job.created_at.desc(), Job.id.desc()).limit(limit + 1)
    jobs = session.scalars(statement).all()
    return Page(jobs[:limit], jobs[limit - 1].id if len(jobs) > limit else None)


def cancel_job(session: Session, viewer: User, job_id: uuid.UUID) -> Job:
    """Cancel what is queued, ask the worker to stop what runs; once more is harmless.

    Raises `TaskFinal` if the job has already ended in another state.
    """
    job = get_job(session, viewer, job_id)
    if State(job.state).final and job.state != State.CANCELLED:
        raise TaskFinal(f"Job {job.id} has ended: {job.state}.", hint="There is nothing to cancel.")
    # All locks on tasks before the first on the job: that is the order everywhere.
    for task in [transition.lock_task(session, task_id) for task_id in sorted(t.id for t in job.tasks)]:
        _cancel_task(session, task)
    return get_job(session, viewer, job_id)


def _cancel_task(session: Session, task: Task) -> None:
    if task.state == State.QUEUED:
        task.cancel_requested = True
        task.message = "Cancelled before it started."
        transition.apply(session, task, Event.CANCELLED)
    elif task.state == State.RUNNING and not task.cancel_requested:
        task.cancel_requested = True
        transition.apply(session, task, Event.CANCEL_REQUESTED)
        outbox.enqueue(session, task, "cancel")


def get_task(session: Session, viewer: User, task_id: uuid.UUID) -> Task:
    """The task with its job and protocol version; `NotFound` if it isn't the viewer's."""
    statement = _visible(select(Task).join(Task.job).where(Task.id == task_id), viewer).options(
        joinedload(Task.job, innerjoin=True),
        joinedload(Task.protocol_version, innerjoin=True).joinedload(ProtocolVersion.protocol),
    )
    task = session.scalars(statement.execution_options(populate_existing=True)).one_or_none()
    if task is None:
        raise NotFound(f"There is no task {task_id}.")
    return task


def task_events(session: Session, viewer: User, task_id: uuid.UUID) -> Sequence[EventRow]:
    """Everything that happened to the task, in order."""
    get_task(session, viewer, task_id)
    return session.scalars(select(EventRow).where(EventRow.task_id == task_id).order_by(EventRow.id)).all()


def task_artifacts(session: Session, viewer: User, task_id: uuid.UUID) -> Sequence[Artifact]:
    """The artifacts of the task's current attempt: those of superseded attempts don't count."""
    task = get_task(session, viewer, task_id)
    statement = select(Artifact).where(Artifact.task_id == task.id, Artifact.attempt == task.attempt)
    return session.scalars(statement.order_by(Artifact.name)).all()


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


def _visible(statement: S, viewer: User) -> S:
    return statement if viewer.is_admin else statement.where(Job.owner_id == viewer.id)
