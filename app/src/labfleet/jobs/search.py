"""Finding jobs: filters, newest first, in pages that cost the same wherever they are."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, func, select, tuple_
from sqlalchemy.orm import Session, joinedload

from labfleet.db.models import Job, Task, User
from labfleet.errors import Invalid
from labfleet.jobs.states import State
from labfleet.jobs.visible import get_job_row, visible, with_protocol

IN_PROGRESS = (State.QUEUED, State.RUNNING)
ERRORED = (State.FAILED, State.PARTIAL)


@dataclass(frozen=True)
class Filter:
    """Which jobs; what is None or empty excludes none. `text` are words of label and note."""

    states: Sequence[State] = ()
    user: str | None = None
    protocol: str | None = None
    datasets: Sequence[str] = ()
    labels: Sequence[str] = ()
    text: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True)
class Page:
    """One page of jobs, newest first; `next` goes into `after` for the following page, None at the end."""

    items: Sequence[Job]
    next: uuid.UUID | None


@dataclass(frozen=True)
class TaskPage:
    """One page of a job's tasks, in the order of the specification."""

    items: Sequence[Task]
    next: uuid.UUID | None


def list_jobs(
    session: Session,
    viewer: User,
    wanted: Filter | None = None,
    limit: int = 50,
    after: uuid.UUID | None = None,
) -> Page:
    """The viewer's jobs (all for an admin), newest first, `limit` a page, following the job `after`."""
    statement = _filtered(visible(select(Job), viewer), wanted or Filter())
    statement = statement.options(joinedload(Job.owner, innerjoin=True))
    if after is not None:
        mark = session.execute(select(Job.created_at, Job.id).where(Job.id == after)).one_or_none()
        if mark is None:
            raise Invalid(f"'after' names no job: {after}.", hint="Use the value of 'next' as it came.")
        statement = statement.where(tuple_(Job.created_at, Job.id) < mark)
    statement = statement.order_by(Job.created_at.desc(), Job.id.desc()).limit(limit + 1)
    jobs = session.scalars(statement).all()
    return Page(jobs[:limit], jobs[limit - 1].id if len(jobs) > limit else None)


def matching(session: Session, viewer: User, wanted: Filter, limit: int) -> Sequence[uuid.UUID]:
    """Ids of the jobs that a filter finds, oldest first, at most `limit`."""
    statement = _filtered(visible(select(Job.id), viewer), wanted)
    return session.scalars(statement.order_by(Job.created_at, Job.id).limit(limit)).all()


def _filtered(statement: Select[Any], wanted: Filter) -> Select[Any]:
    if wanted.states:
        statement = statement.where(Job.state.in_([state.value for state in wanted.states]))
    if wanted.user is not None:
        owner = select(User.id).where(User.name == wanted.user).scalar_subquery()
        statement = statement.where(Job.owner_id == owner)
    if wanted.protocol is not None:
        statement = statement.where(Job.protocols.contains([wanted.protocol]))
    if wanted.datasets:
        statement = statement.where(Job.datasets.contains(list(wanted.datasets)))
    if wanted.labels:
        statement = statement.where(Job.labels.contains(list(wanted.labels)))
    if wanted.text is not None:
        words = func.to_tsvector("simple", Job.label.concat(" ").concat(Job.note))
        statement = statement.where(words.op("@@")(func.plainto_tsquery("simple", wanted.text)))
    if wanted.since is not None:
        statement = statement.where(Job.created_at >= wanted.since)
    if wanted.until is not None:
        statement = statement.where(Job.created_at < wanted.until)
    return statement


def list_tasks(
    session: Session,
    viewer: User,
    job_id: uuid.UUID,
    state: State | None = None,
    *,
    limit: int = 50,
    after: uuid.UUID | None = None,
) -> TaskPage:
    """Tasks of a job, in the order of its specification, following the task `after`."""
    get_job_row(session, viewer, job_id)
    statement = select(Task).where(Task.job_id == job_id).options(with_protocol())
    if state is not None:
        statement = statement.where(Task.state == state)
    if after is not None:
        mark = select(Task.sequence).where(Task.id == after, Task.job_id == job_id)
        sequence = session.scalar(mark)
        if sequence is None:
            raise Invalid(f"'after' names no task: {after}.", hint="Use the value of 'next' as it came.")
        statement = statement.where(Task.sequence > sequence)
    tasks = session.scalars(statement.order_by(Task.sequence).limit(limit + 1)).all()
    return TaskPage(tasks[:limit], tasks[limit - 1].id if len(tasks) > limit else None)
