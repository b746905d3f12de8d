"""The one place where a task's state changes: table, event row and job state in one transaction.

Locks are taken in one order everywhere: job, its rows of the outbox, its tasks by id. Whoever holds such
rows or tasks without their job (the dispatcher, uploads) changes no state, and never asks for a job's lock.
The locks leave keys alone (FOR NO KEY UPDATE): rows that refer to a job or a task, such as events, are
written without waiting.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import ColumnElement, ScalarSelect, Uuid, any_, func, insert, literal, select, update
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import set_committed_value

from labfleet.db.engine import forget_plans
from labfleet.db.models import EventRow, Job, Task
from labfleet.errors import IllegalTransition, NotFound
from labfleet.jobs import webhooks
from labfleet.jobs.states import Event, State, Tally, bucket, job_state, successor
from labfleet.mail import notices

_COUNTS = [part.name for part in fields(Tally)]


def lock_job(session: Session, job_id: uuid.UUID) -> Job:
    """The job, read anew and locked until the transaction ends."""
    job = _locked_job(session, job_id)
    if job is None:
        raise NotFound(f"There is no job {job_id}.")
    return job


def _locked_job(session: Session, job_id: uuid.UUID | ScalarSelect[uuid.UUID]) -> Job | None:
    return session.scalars(
        select(Job)
        .where(Job.id == job_id)
        .with_for_update(of=Job, key_share=True)
        .execution_options(populate_existing=True)
    ).one_or_none()


def lock_task(session: Session, task_id: uuid.UUID) -> Task:
    """The task, read anew and locked with its job until the transaction ends."""
    its_job = select(Task.job_id).where(Task.id == task_id).scalar_subquery()
    job = _locked_job(session, its_job)
    if job is None:
        raise NotFound(f"There is no task {task_id}.")
    task = lock_task_alone(session, task_id)
    # The session forgets what nobody holds, and would read the job again.
    set_committed_value(task, "job", job)
    return task


def lock_task_alone(session: Session, task_id: uuid.UUID) -> Task:
    """The task, read anew and locked without its job: for what changes no state."""
    task = session.scalars(
        select(Task)
        .where(Task.id == task_id)
        .with_for_update(of=Task, key_share=True)
        .execution_options(populate_existing=True)
    ).one_or_none()
    if task is None:
        raise NotFound(f"There is no task {task_id}.")
    return task


def apply(session: Session, task: Task, event: Event, **detail: Any) -> State:
    """Change the task (locked with its job) by `event`, write the event row, and let the job follow.

    Raises `IllegalTransition` where the table has no entry; nothing is changed then.
    """
    before = State(task.state)
    after = successor(before, event)
    if after is None:
        raise IllegalTransition(f"Task {task.id} is {before}; '{event}' is not possible then.")
    counted = _bucket(task)
    task.state = after
    task.skipped = event is Event.SKIPPED
    if after.final:
        task.finished_at = func.clock_timestamp()
        task.lease_until = None
    record(session, task, event, before, after, **detail)
    if after is not before:
        follow(session, session.get_one(Job, task.job_id), {counted: -1, _bucket(task): 1})
    else:
        session.flush()
    return after


def apply_many(  # noqa: PLR0917  (as `apply`, with what many tasks need more)
    session: Session,
    job: Job,
    before: State,
    event: Event,
    which: ColumnElement[bool],
    values: Mapping[Any, Any] | None = None,
    **detail: Any,
) -> list[uuid.UUID]:
    """`apply` for all tasks of the (locked) job in the state `before` that `which` chooses; their ids.

    `values` are set with the state. A few statements, however many tasks there are.
    """
    after = successor(before, event)
    if after is None:
        raise IllegalTransition(f"'{event}' is not possible for tasks that are {before}.")
    session.flush()
    ids = select(Task.id).where(Task.job_id == job.id, Task.state == before, which)
    chosen = session.execute(
        ids.add_columns(Task.optional, Task.skipped).order_by(Task.id).with_for_update(key_share=True)
    )
    rows = chosen.all()
    if not rows:
        return []
    found = [row.id for row in rows]
    ended = {Task.finished_at: func.clock_timestamp(), Task.lease_until: None} if after.final else {}
    changed = {Task.state: after.value, Task.skipped: event is Event.SKIPPED, **ended, **(values or {})}
    statement = update(Task).where(among(found)).values(changed)
    session.execute(statement, execution_options={"synchronize_session": False})
    session.expire_all()
    forget_plans(session, len(found))
    note(session, among(found), event, before, **detail)
    change: Counter[str] = Counter()
    for row in rows:
        change[bucket(before, optional=row.optional, skipped=row.skipped)] -= 1
        change[bucket(after, optional=row.optional, skipped=event is Event.SKIPPED)] += 1
    follow(session, lock_job(session, job.id), change)
    return found


def record(
    session: Session, task: Task, event: Event, before: State | None, after: State, **detail: Any
) -> None:
    """Write an event row with the next flush; `before` is None for a task that has just been made."""
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


def note(
    session: Session, which: ColumnElement[bool], event: Event, before: State | None = None, **detail: Any
) -> None:
    """Write an event row for each of the tasks that `which` chooses as they are now, in one statement.

    `before` is the state that they had; None for events that change no state.
    """
    from_state = Task.state if before is None else literal(before.value)
    columns = [
        Task.job_id,
        Task.id,
        Task.attempt,
        literal(str(event)),
        from_state,
        Task.state,
        literal(detail, JSONB),
    ]
    rows = select(*columns).where(which)
    session.execute(insert(EventRow).from_select(_EVENT_COLUMNS, rows))


def note_submitted(session: Session, job_id: uuid.UUID) -> None:
    """Write the first event of every task of a job that has just been made."""
    columns = [
        Task.job_id,
        Task.id,
        Task.attempt,
        literal(str(Event.SUBMITTED)),
        Task.state,
        literal({}, JSONB),
    ]
    names = [name for name in _EVENT_COLUMNS if name != "from_state"]
    session.execute(
        insert(EventRow).from_select(
            names, select(*columns).where(Task.job_id == job_id).order_by(Task.sequence)
        )
    )


def among(task_ids: Sequence[uuid.UUID]) -> ColumnElement[bool]:
    """SQL: whether the task is one of these, however many (as single parameters they would be too many)."""
    return Task.id == any_(literal(list(task_ids), ARRAY(Uuid)))


_EVENT_COLUMNS = ["job_id", "task_id", "attempt", "event", "from_state", "to_state", "detail"]


def now(session: Session) -> Any:
    """The database's clock, now (not the transaction's beginning)."""
    return session.scalar(select(func.clock_timestamp()))


def tally(job: Job) -> Tally:
    """How many tasks of the job stand where."""
    return Tally(**{name: getattr(job, f"tasks_{name}") for name in _COUNTS})


def follow(session: Session, job: Job, change: Mapping[str, int]) -> None:
    """Count on the (locked) job what its tasks did, and let its state follow."""
    for name, number in change.items():
        setattr(job, f"tasks_{name}", getattr(job, f"tasks_{name}") + number)
    state = job_state(tally(job))
    if state != job.state:
        if State(job.state).final:
            notices.withdraw(session, job)
        job.state = state
        job.finished_at = func.clock_timestamp() if state.final else None
        if state.final and job.webhook:
            webhooks.announce(session, job)
        if state.final:
            notices.note(session, job)
    session.flush()


def _bucket(task: Task) -> str:
    return bucket(State(task.state), optional=task.optional, skipped=task.skipped)
