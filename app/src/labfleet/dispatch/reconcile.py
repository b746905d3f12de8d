"""Repair what stalled: attempts whose lease lapsed, and messages that nobody has claimed."""

from __future__ import annotations

import uuid

from sqlalchemy import Double, cast, exists, func, insert, literal, select, update
from sqlalchemy.orm import Session, sessionmaker

from labfleet.db.models import OutboxRow, Task
from labfleet.jobs import finishing, transition
from labfleet.jobs.states import Event, State
from labfleet.log import get_logger

_log = get_logger(__name__)
BATCH = 500
# A task that merely waits for a busy fleet is re-sent ever more rarely, up to 64 times the first interval.
MAX_DOUBLINGS = 6


def reconcile(sessions: sessionmaker[Session], unclaimed_seconds: float) -> tuple[int, int]:
    """One round; how many leases lapsed and how many messages are to be sent again. Commits by itself."""
    lapsed = 0
    while lapsed < BATCH and _lapse_one(sessions):
        lapsed += 1
    with sessions() as session, session.begin():
        resent = resend_unclaimed(session, unclaimed_seconds)
    if lapsed or resent:
        _log.warning("repaired", lapsed=lapsed, resent=resent)
    return lapsed, resent


def _lapse_one(sessions: sessionmaker[Session]) -> bool:
    # One transaction each: a job is locked with its task, and two such locks at once could deadlock.
    with sessions() as session, session.begin():
        task = session.scalars(
            select(Task)
            .where(Task.state == State.RUNNING, Task.lease_until < func.clock_timestamp())
            .order_by(Task.lease_until)
            .limit(1)
            .with_for_update(skip_locked=True)
        ).one_or_none()
        if task is None:
            return False
        finishing.lapse(session, task)
        _log.warning("lease lapsed", task=str(task.id), attempt=task.attempt, state=task.state)
        return True


def resend_unclaimed(session: Session, unclaimed_seconds: float) -> int:
    """Put queued tasks back into the outbox whose message was confirmed long ago and never claimed."""
    ids = _unclaimed(session, unclaimed_seconds)
    if not ids:
        return 0
    rows = select(literal("run"), Task.id, Task.attempt).where(Task.id.in_(ids))
    session.execute(insert(OutboxRow).from_select(["kind", "task_id", "attempt"], rows))
    transition.note(session, ids, Event.RESENT)
    session.execute(
        update(Task).where(Task.id.in_(ids)).values(dispatched_at=None, resends=Task.resends + 1),
        execution_options={"synchronize_session": False},
    )
    return len(ids)


def _unclaimed(session: Session, unclaimed_seconds: float) -> list[uuid.UUID]:
    waits = unclaimed_seconds * func.power(2.0, func.least(Task.resends, MAX_DOUBLINGS))
    age = cast(func.extract("epoch", func.clock_timestamp() - Task.dispatched_at), Double)
    pending = exists().where(
        OutboxRow.task_id == Task.id, OutboxRow.attempt == Task.attempt, OutboxRow.kind == "run"
    )
    statement = (
        select(Task.id)
        .where(Task.state == State.QUEUED, Task.dispatched_at.is_not(None), age > waits, ~pending)
        .order_by(Task.dispatched_at)
        .limit(BATCH)
        .with_for_update(of=Task, skip_locked=True)
    )
    return list(session.scalars(statement))
