"""Finding jobs: filters, newest first, in pages that cost the same wherever they are."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    SQLColumnExpression,
    and_,
    func,
    or_,
    select,
    true,
    tuple_,
    union,
)
from sqlalchemy.orm import Session, joinedload, undefer

from labfleet.db.models import Job, Task, User
from labfleet.errors import Invalid
from labfleet.jobs.states import State
from labfleet.jobs.visible import Whose, among, note_is_for, owned, read_job, with_protocol

IN_PROGRESS = (State.QUEUED, State.RUNNING)
ERRORED = (State.FAILED, State.PARTIAL)


@dataclass(frozen=True)
class Filter:
    """Which jobs; what is None or empty excludes none. `text` are words of label and note; of jobs of others
    words of the label."""

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
    *,
    whose: Whose | None = None,
) -> Page:
    """Jobs, newest first, `limit` a page, following the job `after`: without `whose` the viewer's own, for an
    admin everybody's."""
    whose = whose or (Whose.ALL if viewer.is_admin else Whose.MINE)
    notes = true() if whose is Whose.MINE else note_is_for(viewer)
    statement = _filtered(select(Job), wanted or Filter(), notes)
    if after is not None:
        mark = session.execute(select(Job.created_at, Job.id).where(Job.id == after)).one_or_none()
        if mark is None:
            raise Invalid(f"'after' names no job: {after}.", hint="Use the value of 'next' as it came.")
        statement = statement.where(tuple_(Job.created_at, Job.id) < mark)
    statement = _newest(statement, among(viewer, whose), limit + 1)
    options = (joinedload(Job.owner, innerjoin=True), undefer(Job.has_shares))
    jobs = session.scalars(statement.options(*options)).all()
    return Page(jobs[:limit], jobs[limit - 1].id if len(jobs) > limit else None)


def _newest(
    statement: Select[Job], conditions: Sequence[SQLColumnExpression[bool]], limit: int
) -> Select[Job]:
    """The newest for which one of the conditions holds: the newest of each, found by its index, together."""
    order = (Job.created_at.desc(), Job.id.desc())
    pages = [statement.where(each).order_by(*order).limit(limit) for each in conditions]
    if len(pages) == 1:
        return pages[0]
    ids = union(*(select(page.with_only_columns(Job.id).subquery()) for page in pages))
    return select(Job).where(Job.id.in_(ids)).order_by(*order).limit(limit)


def matching(session: Session, viewer: User, wanted: Filter, limit: int) -> Sequence[uuid.UUID]:
    """Ids of the jobs that a filter finds and the viewer may change, oldest first, at most `limit`."""
    statement = _filtered(select(Job.id).where(owned(viewer)), wanted, true())
    return session.scalars(statement.order_by(Job.created_at, Job.id).limit(limit)).all()


def _filtered(statement: Select[Any], wanted: Filter, notes: ColumnElement[bool]) -> Select[Any]:
    """`notes` is the condition on jobs of those whose notes may be looked through."""
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
        query = func.plainto_tsquery("simple", wanted.text)
        words = func.to_tsvector("simple", Job.label.concat(" ").concat(Job.note))
        in_label = func.to_tsvector("simple", Job.label).op("@@", is_comparison=True)(query)
        found = words.op("@@", is_comparison=True)(query)
        statement = statement.where(and_(found, or_(notes, in_label)))
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
    read_job(session, viewer, job_id)
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
