"""Repair what stalled: attempts whose lease lapsed, and tasks that their worker does not take."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Sequence

from sqlalchemy import case, delete, func, select, text, update
from sqlalchemy.orm import Session, sessionmaker

from labfleet.config import DispatcherSection, OrderSection
from labfleet.db.models import OutboxRow, Task
from labfleet.dispatch.batch import unroutable_message
from labfleet.errors import NotFound
from labfleet.jobs import finishing, transition
from labfleet.jobs.order import TAKEN
from labfleet.jobs.states import Event, State
from labfleet.log import get_logger

_log = get_logger(__name__)
BATCH = 500

STRANDED = f"""
SELECT tasks.id, tasks.placed_on
FROM tasks LEFT JOIN workers ON workers.name = tasks.placed_on
WHERE {TAKEN} AND state = 'queued' AND (
    -- Its worker is gone, or takes nothing new.
    workers.name IS NULL OR workers.stopping OR workers.draining
    OR workers.last_seen < clock_timestamp() - make_interval(secs => :presence)
    -- Or it was to begin at once, and its worker is full of others that go on.
    OR (
        dispatched_at < clock_timestamp() - make_interval(secs => :ahead)
        AND workers.slots <= (
            SELECT count(*) FROM tasks AS others
            WHERE others.placed_on = tasks.placed_on AND others.state = 'running'
        )
    )
    -- Or the broker has confirmed the message and nothing came of it; a full worker is given ever more time.
    OR (
        coalesce(dispatched_at, '-infinity') < clock_timestamp() - make_interval(secs => least(
            :unclaimed_max,
            :unclaimed * CASE WHEN workers.free_slots > 0 THEN 1 ELSE 2 ^ least(resends, 10) END
        ))
        AND NOT EXISTS (
            SELECT FROM outbox
            WHERE outbox.task_id = tasks.id AND outbox.attempt = tasks.attempt AND outbox.kind = 'run'
        )
    )
)
ORDER BY dispatched_at, tasks.id
LIMIT :batch
FOR NO KEY UPDATE OF tasks SKIP LOCKED
"""  # noqa: S608 - constants of this package


def reconcile(
    sessions: sessionmaker[Session], section: DispatcherSection, rules: OrderSection
) -> tuple[int, int]:
    """One round; how many leases lapsed and how many tasks are to be placed anew. Commits by itself."""
    lapsed = sum(_lapse(sessions, task_id) for task_id in _overdue(sessions))
    with sessions() as session, session.begin():
        stranded = place_anew(session, section, rules)
    if lapsed or stranded:
        _log.warning("repaired", lapsed=lapsed, placed_anew=stranded)
    return lapsed, stranded


def _overdue(sessions: sessionmaker[Session]) -> Sequence[uuid.UUID]:
    with sessions() as session:
        statement = (
            select(Task.id)
            .where(Task.state == State.RUNNING, Task.lease_until < func.clock_timestamp())
            .order_by(Task.lease_until)
            .limit(BATCH)
        )
        return session.scalars(statement).all()


def _lapse(sessions: sessionmaker[Session], task_id: uuid.UUID) -> bool:
    # One transaction each: the job is locked before its task, and two jobs at once could deadlock.
    with sessions() as session, session.begin():
        try:
            task = transition.lock_task(session, task_id)
        except NotFound:  # its job was deleted meanwhile
            return False
        if task.state != State.RUNNING or task.lease_until is None:
            return False
        if task.lease_until >= transition.now(session):
            return False
        finishing.lapse(session, task)
        _log.warning("lease lapsed", task=str(task.id), attempt=task.attempt, state=task.state)
        return True


def place_anew(session: Session, section: DispatcherSection, rules: OrderSection) -> int:
    """Take tasks from workers that are gone, take nothing new, or leave them alone for too long; how many."""
    values = {
        "presence": rules.presence_timeout_seconds,
        "ahead": 2 * rules.ahead_seconds,
        "unclaimed": section.unclaimed_seconds,
        "unclaimed_max": section.unclaimed_max_seconds,
        "batch": BATCH,
    }
    stranded = {row.id: row.placed_on for row in session.execute(text(STRANDED), values)}
    for task_id in _being_sent(session, list(stranded)):
        del stranded[task_id]
    by_worker = sorted(stranded, key=lambda task_id: stranded[task_id])
    for worker, group in itertools.groupby(by_worker, key=lambda task_id: stranded[task_id]):
        _take_from(session, worker, list(group))
    return len(stranded)


def _being_sent(session: Session, ids: Sequence[uuid.UUID]) -> set[uuid.UUID]:
    """Those of the tasks whose message a dispatcher has in hand; the messages of the others are deleted."""
    if not ids:
        return set()
    pending = select(OutboxRow.id, OutboxRow.task_id).where(
        OutboxRow.task_id.in_(ids), OutboxRow.kind == "run"
    )
    rows = session.execute(pending).all()
    free = {row.id for row in session.execute(pending.with_for_update(skip_locked=True))}
    session.execute(
        delete(OutboxRow).where(OutboxRow.id.in_(free)), execution_options={"synchronize_session": False}
    )
    return {row.task_id for row in rows if row.id not in free}


def _take_from(session: Session, worker: str, ids: Sequence[uuid.UUID]) -> None:
    transition.note(session, transition.among(ids), Event.RESENT, worker=worker)
    values = {
        Task.placed_on: None,
        Task.dispatched_at: None,
        Task.resends: Task.resends + 1,
        Task.message: case((Task.message == unroutable_message(worker), ""), else_=Task.message),
    }
    session.execute(
        update(Task).where(Task.id.in_(ids)).values(values), execution_options={"synchronize_session": False}
    )
