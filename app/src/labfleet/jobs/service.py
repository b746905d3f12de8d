"""Jobs as their owners see them: submit, look at tasks, events, results and where they came from.

Every function takes a session and leaves the commit to its caller. What a viewer may not see is
`NotFound` (`visible`). An admin sees everything. Lists are in `search`, what changes a job in `verbs`, for
whom it is in `access`.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import BigInteger, and_, cast, func, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session

from labfleet.config import JobsSection, MailSection, WebhooksSection
from labfleet.db.models import Artifact, Attempt, Delivery, EventRow, Job, Node, Task, User
from labfleet.errors import Invalid
from labfleet.jobs import inputs, submission
from labfleet.jobs.spec import JobSpec
from labfleet.jobs.visible import (
    get_job_row,
    get_task,
    read_artifact,
    read_job,
    read_task,
)

__all__ = [
    "Page",
    "Provenance",
    "attempts_of",
    "deliveries",
    "get_job_row",
    "get_task",
    "job_events",
    "job_results",
    "nodes_above",
    "nodes_of",
    "provenance",
    "read_artifact",
    "read_job",
    "read_task",
    "submit",
    "task_artifacts",
    "task_events",
    "task_names",
]


def submit(
    session: Session,
    owner: User,
    spec: JobSpec,
    idempotency_key: str | None = None,
    *,
    max_attempts: int = 3,
    limits: JobsSection = submission.LIMITS,
    calls: WebhooksSection = submission.NO_WEBHOOKS,
    mails: MailSection = submission.NO_MAILS,
) -> Job:
    """Check the specification and make job, nodes, tasks and events.

    The same key of the same owner returns the job that it made, however many ask at once. Raises
    `InvalidJob`; for a job of one task `UnknownProtocol`, `UnknownVersion`, `UnknownDataset`,
    `InvalidParameters`, `InvalidInputs`; `WebhooksOff`; `MailOff` or `NoAddress`; and `IdempotencyMismatch`
    if the key was used for another request.
    """
    job_id = submission.submit(
        session,
        owner,
        spec,
        idempotency_key,
        max_attempts=max_attempts,
        limits=limits,
        calls=calls,
        mails=mails,
    )
    return get_job_row(session, owner, job_id)


def nodes_of(session: Session, job_id: uuid.UUID) -> Sequence[Node]:
    """The inner nodes of a job's tree, parents first; none for a job of one task."""
    return session.scalars(select(Node).where(Node.job_id == job_id).order_by(Node.number)).all()


def nodes_above(session: Session, job_id: uuid.UUID, numbers: Collection[int]) -> Sequence[Node]:
    """These inner nodes and those that they stand in, parents first."""
    if not numbers:
        return []
    wanted = func.unnest(cast(list(numbers), ARRAY(BigInteger))).column_valued("wanted")
    inside = select(wanted).where(wanted.between(Node.number, Node.last))
    statement = select(Node).where(Node.job_id == job_id, inside.exists())
    return session.scalars(statement.order_by(Node.number)).all()


def task_names(session: Session, job_id: uuid.UUID, ids: Collection[uuid.UUID]) -> dict[uuid.UUID, str]:
    """The names of these tasks of a job."""
    statement = select(Task.id, Task.name).where(Task.job_id == job_id, Task.id.in_(ids))
    return {row.id: row.name for row in session.execute(statement)}


def task_events(session: Session, viewer: User, task_id: uuid.UUID) -> Sequence[EventRow]:
    """Everything that happened to the task, in order."""
    read_task(session, viewer, task_id)
    return session.scalars(select(EventRow).where(EventRow.task_id == task_id).order_by(EventRow.id)).all()


@dataclass(frozen=True)
class Page:
    """One page of rows; `next` goes into `after`, None at the end."""

    items: Sequence[EventRow]
    next: int | None


def job_events(session: Session, viewer: User, job_id: uuid.UUID, limit: int, after: int | None) -> Page:
    """The history of a job and all of its tasks, in order."""
    read_job(session, viewer, job_id)
    statement = select(EventRow).where(EventRow.job_id == job_id)
    if after is not None:
        statement = statement.where(EventRow.id > after)
    rows = session.scalars(statement.order_by(EventRow.id).limit(limit + 1)).all()
    return Page(rows[:limit], rows[limit - 1].id if len(rows) > limit else None)


def task_artifacts(session: Session, viewer: User, task_id: uuid.UUID) -> Sequence[Artifact]:
    """The artifacts of the task's current attempt: those of superseded attempts don't count."""
    task = read_task(session, viewer, task_id)
    statement = select(Artifact).where(Artifact.task_id == task.id, Artifact.attempt == task.attempt)
    return session.scalars(statement.order_by(Artifact.name)).all()


@dataclass(frozen=True)
class Result:
    """An artifact with the name of the task that made it."""

    task: str
    artifact: Artifact


def job_results(
    session: Session, viewer: User, job_id: uuid.UUID, limit: int, after: uuid.UUID | None
) -> tuple[Sequence[Result], uuid.UUID | None]:
    """The artifacts that count of all tasks of a job, in the order of its tasks; also while it runs."""
    read_job(session, viewer, job_id)
    current = and_(Artifact.task_id == Task.id, Artifact.attempt == Task.attempt)
    statement = (
        select(Task.name, Task.sequence, Artifact).join(Artifact, current).where(Task.job_id == job_id)
    )
    if after is not None:
        mark = session.execute(
            select(Task.sequence, Artifact.name)
            .join(Task, Task.id == Artifact.task_id)
            .where(Artifact.id == after)
        ).one_or_none()
        if mark is None:
            raise Invalid(f"'after' names no artifact: {after}.", hint="Use the value of 'next' as it came.")
        later = (Task.sequence > mark.sequence) | (
            (Task.sequence == mark.sequence) & (Artifact.name > mark.name)
        )
        statement = statement.where(later)
    rows = session.execute(statement.order_by(Task.sequence, Artifact.name).limit(limit + 1)).all()
    found = [Result(name, artifact) for name, _, artifact in rows[:limit]]
    return found, found[-1].artifact.id if len(rows) > limit else None


def attempts_of(session: Session, viewer: User, task_id: uuid.UUID) -> Sequence[Attempt]:
    """Every try at the task, the first first."""
    read_task(session, viewer, task_id)
    return session.scalars(select(Attempt).where(Attempt.task_id == task_id).order_by(Attempt.number)).all()


@dataclass(frozen=True)
class Provenance:
    """Where a result came from."""

    task: Task
    attempts: Sequence[Attempt]
    inputs: Sequence[inputs.InputFile]
    artifacts: Sequence[Artifact]


def provenance(session: Session, viewer: User, task_id: uuid.UUID) -> Provenance:
    """Protocol, parameters, inputs by hash, attempts with worker and environment, and what came out."""
    task = read_task(session, viewer, task_id)
    known = [] if inputs.open_sources(session, task) else list(inputs.resolve(session, task).values())
    return Provenance(
        task, attempts_of(session, viewer, task_id), known, task_artifacts(session, viewer, task_id)
    )


def deliveries(session: Session, viewer: User, job_id: uuid.UUID) -> Sequence[Delivery]:
    """The log of the job's webhook, the newest first: for its owner alone, it has addresses."""
    get_job_row(session, viewer, job_id)
    return session.scalars(
        select(Delivery).where(Delivery.job_id == job_id).order_by(Delivery.created_at.desc())
    ).all()
