"""The one place where a task's state changes: table, event row and job state in one transaction."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, insert, literal, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session, joinedload

from labfleet.db.models import EventRow, Job, Task
from labfleet.errors import IllegalTransition, NotFound
from labfleet.jobs.states import Event, State, job_state, successor


def lock_task(session: Session, task_id: uuid.UUID) -> Task:
    """The task, read anew and locked until the transaction ends.

    Locks are taken in one order everywhere: outbox row, tasks by id, job.
    """
    task = session.scalars(
        select(Task)
        .where(Task.id == task_id)
        .with_for_update(of=Task)
        .execution_options(populate_existing=True)
    ).one_or_none()
    if task is None:
        raise NotFound(f"There is no task {task_id}.")
    return task


def apply(session: Session, task: Task, event: Event, **detail: Any) -> State:
    """Change the (locked) task by `event`, write the event row, and let the job follow.

    Raises `IllegalTransition` where the table has no entry; nothing is changed then.
    """
    before = State(task.state)
    after = successor(before, event)
    if after is None:
        raise IllegalTransition(f"Task {task.id} is {before}; '{event}' is not possible then.")
    task.state = after
    if after.final:
        task.finished_at = now(session)
        task.lease_until = None
    record(session, task, event, before, after, **detail)
    if after != before:
        _follow(session, task.job_id)
    return after


def record(
    session: Session, task: Task, event: Event, before: State | None, after: State, **detail: Any
) -> None:
    """Write an event row; `before` is None for a task that has just been made."""
    session.add(
        EventRow(
            job_id=task.job_id,
            task_id=task.id,
            attempt=task.attempt,
            event=event,
            from_state=before,
            to_state=after,
            detail=detail,
        )
    )
    session.flush()


def note(session: Session, task_ids: Sequence[uuid.UUID], event: Event, **detail: Any) -> None:
    """Write an event row that changes no state, for many tasks in one statement."""
    rows = select(
        Task.job_id,
        Task.id,
        Task.attempt,
        literal(str(event)),
        Task.state,
        Task.state,
        literal(detail, JSONB),
    ).where(Task.id.in_(task_ids))
    columns = ["job_id", "task_id", "attempt", "event", "from_state", "to_state", "detail"]
    session.execute(insert(EventRow).from_select(columns, rows))


def now(session: Session) -> Any:
    """The database's clock, now (not the transaction's beginning)."""
    return session.scalar(select(func.clock_timestamp()))


def _follow(session: Session, job_id: uuid.UUID) -> None:
    session.flush()
    job = (
        session.scalars(
            select(Job)
            .where(Job.id == job_id)
            .options(joinedload(Job.tasks))
            .with_for_update(of=Job)
            .execution_options(populate_existing=True)
        )
        .unique()
        .one()
    )
    state = job_state(State(task.state) for task in job.tasks)
    if state == job.state:
        return
    job.state = state
    job.finished_at = now(session) if state.final else None
    session.flush()
