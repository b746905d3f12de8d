"""One batch of the outbox: pick due rows, send them, settle what the queue tier answered.

The rows stay locked while they are sent, so that two dispatchers never send the same row at once; if
the process dies the locks go and the rows are sent again. A worker that gets a message twice claims once.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import delete, func, select, tuple_, update
from sqlalchemy.orm import Session

from labfleet.config import DispatcherSection
from labfleet.db.models import OutboxRow, Task
from labfleet.dispatch.runner_client import Message, Runner, RunnerUnavailable, Status, Target
from labfleet.jobs import transition
from labfleet.jobs.states import Event, State
from labfleet.jobs.tokens import sign_attempt
from labfleet.log import get_logger

_log = get_logger(__name__)
_FIRST_BACKOFF = 0.5
_VERBS = {"cancel": "cancel", "run": "schedule"}
_NOT_CONFIRMED = "The queue tier did not confirm the message."


@dataclass(frozen=True)
class Courier:
    """What sending takes: the way to the queue tier, the signing keys (the first signs), the settings."""

    runner: Runner
    keys: Sequence[str]
    section: DispatcherSection


@dataclass(frozen=True)
class Due:
    """A row of the outbox with what its task says now."""

    row: OutboxRow
    key: str
    state: str
    attempt: int

    @property
    def target(self) -> Target:
        """Task and attempt."""
        return self.row.task_id, self.row.attempt

    @property
    def stale(self) -> bool:
        """Whether the message means nothing any more: another attempt, or the state has passed it by."""
        wanted = State.QUEUED if self.row.kind == "run" else State.RUNNING
        return self.attempt != self.row.attempt or self.state != wanted

    def message(self, keys: Sequence[str]) -> Message:
        """What the CGI runner gets."""
        message: Message = {"task": str(self.row.task_id), "attempt": self.row.attempt}
        if self.row.kind == "run":
            message |= {"key": self.key, "token": sign_attempt(*self.target, keys)}
        return message


def dispatch_batch(session: Session, courier: Courier) -> int:
    """Send up to `batch_size` due rows; how many were picked. The caller commits."""
    picked = pick(session, courier.section.batch_size)
    stale = [due for due in picked if due.stale]
    _delete(session, stale)
    for kind, verb in _VERBS.items():
        batch = [due for due in picked if due.row.kind == kind and not due.stale]
        if batch:
            _dispatch(session, courier, verb, batch)
    return len(picked)


def pick(session: Session, limit: int) -> list[Due]:
    """The next due rows that no other dispatcher holds, locked."""
    statement = (
        select(OutboxRow, Task.key, Task.state, Task.attempt)
        .join(Task, Task.id == OutboxRow.task_id)
        .where(OutboxRow.next_try_at <= func.clock_timestamp())
        .order_by(OutboxRow.next_try_at, OutboxRow.id)
        .limit(limit)
        .with_for_update(of=OutboxRow, skip_locked=True)
    )
    return [Due(row, key, state, attempt) for row, key, state, attempt in session.execute(statement)]


def _dispatch(session: Session, courier: Courier, verb: str, batch: Sequence[Due]) -> None:
    try:
        statuses = courier.runner.send(verb, [due.message(courier.keys) for due in batch])
    except RunnerUnavailable as error:
        _log.warning("batch not sent", verb=verb, messages=len(batch), error=error.detail)
        _postpone(session, batch, error.detail, courier.section)
        return
    settle(session, batch, statuses, courier.section)
    _log.info("batch sent", verb=verb, messages=len(batch))


def settle(
    session: Session, batch: Sequence[Due], statuses: Mapping[Target, Status], section: DispatcherSection
) -> None:
    """Delete what was confirmed, keep the rest for another try, say on the task what can't be routed."""
    by_status: dict[Status, list[Due]] = {status: [] for status in Status}
    for due in batch:
        by_status[statuses.get(due.target, Status.FAILED)].append(due)
    _confirmed(session, by_status[Status.CONFIRMED])
    _unroutable(session, by_status[Status.UNROUTABLE], section)
    _postpone(session, by_status[Status.FAILED], _NOT_CONFIRMED, section)


def _confirmed(session: Session, batch: Sequence[Due]) -> None:
    _delete(session, batch)
    runs = [due.target for due in batch if due.row.kind == "run"]
    if not runs:
        return
    ids = _lock_tasks(session, runs)
    transition.note(session, ids, Event.DISPATCHED)
    session.execute(
        update(Task).where(Task.id.in_(ids)).values(dispatched_at=func.clock_timestamp()),
        execution_options={"synchronize_session": False},
    )
    cleared = [due.row.task_id for due in batch if due.row.last_error == unroutable_message(due.key)]
    session.execute(
        update(Task).where(Task.id.in_(cleared), Task.state == State.QUEUED).values(message=""),
        execution_options={"synchronize_session": False},
    )


def _lock_tasks(session: Session, targets: Sequence[Target]) -> list[uuid.UUID]:
    # A task may be claimed, or at its end, before its confirmation is written; a newer attempt is not meant.
    current = tuple_(Task.id, Task.attempt).in_(targets)
    return list(session.scalars(select(Task.id).where(current).order_by(Task.id).with_for_update()))


def _unroutable(session: Session, batch: Sequence[Due], section: DispatcherSection) -> None:
    for due in sorted(batch, key=lambda due: due.target):
        message = unroutable_message(due.key)
        if due.row.kind == "run" and due.row.last_error != message:
            _tell_unroutable(session, due, message)
        _postpone(session, [due], message, section)


def _tell_unroutable(session: Session, due: Due, message: str) -> None:
    task = transition.lock_task(session, due.row.task_id)
    if task.state == State.QUEUED and task.attempt == due.row.attempt:
        task.message = message
        transition.apply(session, task, Event.UNROUTABLE, key=due.key)


def unroutable_message(key: str) -> str:
    """What a user reads on a task whose key nobody serves."""
    return (
        f"Waits: the broker has no queue for the key '{key}'. "
        "An admin adds it to the keys of the queue tier and of a worker; the task then runs by itself."
    )


def _postpone(session: Session, batch: Sequence[Due], error: str, section: DispatcherSection) -> None:
    for due in batch:
        delay = min(section.backoff_max_seconds, _FIRST_BACKOFF * 2 ** min(due.row.tries, 20))
        due.row.tries += 1
        due.row.next_try_at = func.clock_timestamp() + timedelta(seconds=delay)
        due.row.last_error = error[:1000]
    session.flush()


def _delete(session: Session, batch: Sequence[Due]) -> None:
    if batch:
        ids = [due.row.id for due in batch]
        session.execute(
            delete(OutboxRow).where(OutboxRow.id.in_(ids)), execution_options={"synchronize_session": False}
        )
        for due in batch:
            session.expunge(due.row)
