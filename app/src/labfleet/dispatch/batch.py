"""One batch of the outbox: pick due rows, send them, settle what the queue tier answered.

The rows stay locked while they are sent, so that two dispatchers never send the same row at once; if
the process dies the locks go and the rows are sent again. A worker that gets a message twice claims once.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, case, delete, func, select, tuple_, update
from sqlalchemy.orm import Session

from labfleet import crash
from labfleet.config import DispatcherSection
from labfleet.db.models import OutboxRow, Task
from labfleet.dispatch import metrics
from labfleet.dispatch.runner_client import Message, Runner, RunnerUnavailable, Status, Target
from labfleet.jobs import transition
from labfleet.jobs.states import Event, State
from labfleet.jobs.tokens import sign_attempt
from labfleet.log import bound, get_logger

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
    worker: str | None

    @property
    def target(self) -> Target:
        """Task and attempt."""
        return self.row.task_id, self.row.attempt

    @property
    def stale(self) -> bool:
        """Whether the message means nothing any more: another attempt, no worker, or the state passed by."""
        run = self.row.kind == "run"
        wanted = State.QUEUED if run else State.RUNNING
        return self.attempt != self.row.attempt or self.state != wanted or (run and self.worker is None)

    def message(self, keys: Sequence[str]) -> Message:
        """What the CGI runner gets."""
        message: Message = {"task": str(self.row.task_id), "attempt": self.row.attempt}
        if self.row.kind == "run":
            message |= {
                "key": self.key,
                "token": sign_attempt(*self.target, keys),
                "worker": self.worker,
            }
        return message


def dispatch_batch(session: Session, courier: Courier) -> int:
    """Send up to `batch_size` due rows; how many were picked. The caller commits."""
    picked = pick(session, courier.section.batch_size)
    stale = [due for due in picked if due.stale]
    _delete(session, stale)
    for kind, verb in _VERBS.items():
        batch = [due for due in picked if due.row.kind == kind and not due.stale]
        if batch:
            with bound(request=uuid.uuid4().hex):
                _dispatch(session, courier, verb, batch)
    return len(picked)


def pick(session: Session, limit: int) -> list[Due]:
    """The next due rows that no other dispatcher holds, locked."""
    statement = (
        select(OutboxRow, Task.key, Task.state, Task.attempt, Task.placed_on)
        .join(Task, Task.id == OutboxRow.task_id)
        .where(OutboxRow.next_try_at <= func.clock_timestamp())
        .order_by(OutboxRow.next_try_at, OutboxRow.id)
        .limit(limit)
        .with_for_update(of=OutboxRow, skip_locked=True)
    )
    return [Due(*row) for row in session.execute(statement)]


def _dispatch(session: Session, courier: Courier, verb: str, batch: Sequence[Due]) -> None:
    crash.point("dispatch_before_send")
    tasks = [str(due.row.task_id) for due in batch]
    try:
        statuses = courier.runner.send(verb, [due.message(courier.keys) for due in batch])
    except RunnerUnavailable as error:
        _log.warning("batch not sent", verb=verb, messages=len(batch), tasks=tasks, error=error.detail)
        metrics.SENT.labels("not sent").inc(len(batch))
        _postpone(session, batch, error.detail, courier.section)
        return
    crash.point("dispatch_after_send")
    settle(session, batch, statuses, courier.section)
    _log.info("batch sent", verb=verb, messages=len(batch), tasks=tasks)


def settle(
    session: Session, batch: Sequence[Due], statuses: Mapping[Target, Status], section: DispatcherSection
) -> None:
    """Delete what was confirmed, keep the rest for another try, say on the task what can't be routed."""
    by_status: dict[Status, list[Due]] = {status: [] for status in Status}
    for due in batch:
        by_status[statuses.get(due.target, Status.FAILED)].append(due)
    for status, told in by_status.items():
        metrics.SENT.labels(status).inc(len(told))
    _confirmed(session, by_status[Status.CONFIRMED])
    _unroutable(session, by_status[Status.UNROUTABLE], section)
    _postpone(session, by_status[Status.FAILED], _NOT_CONFIRMED, section)


def _confirmed(session: Session, batch: Sequence[Due]) -> None:
    _delete(session, batch)
    runs = [due for due in batch if due.row.kind == "run"]
    for worker, told in _by_worker(runs):
        transition.note(session, _current(told), Event.DISPATCHED, worker=worker)
        values = {
            Task.dispatched_at: func.clock_timestamp(),
            Task.message: case((Task.message == unroutable_message(worker), ""), else_=Task.message),
        }
        _update(session, Task.id.in_(_still_placed(told)), values)


def _unroutable(session: Session, batch: Sequence[Due], section: DispatcherSection) -> None:
    runs = [due for due in batch if due.row.kind == "run"]
    for worker, told in _by_worker(runs):
        message = unroutable_message(worker)
        news = session.scalars(_still_placed([due for due in told if due.row.last_error != message])).all()
        transition.note(session, transition.among(news), Event.UNROUTABLE, worker=worker)
        _update(session, transition.among(news), {Task.message: message})
        _postpone(session, told, message, section)
    _postpone(session, [due for due in batch if due.row.kind != "run"], _NOT_CONFIRMED, section)


def unroutable_message(worker: str) -> str:
    """What a user reads on a task that was placed on a worker to which no message can get."""
    return (
        f"Waits: the broker has no queue for the worker '{worker}'. "
        "An admin runs playbooks/queue.yml, which makes one for each worker; the task then runs by itself."
    )


def _by_worker(runs: Sequence[Due]) -> Iterator[tuple[str, list[Due]]]:
    # What is sent has a worker: a message without one is stale.
    for worker, group in itertools.groupby(
        sorted(runs, key=lambda due: (due.worker or "", due.target)), key=lambda due: due.worker or ""
    ):
        yield worker, list(group)


def _current(runs: Sequence[Due]) -> ColumnElement[bool]:
    # A task may be claimed, or at its end, before its confirmation is written; a newer attempt is not meant.
    return tuple_(Task.id, Task.attempt).in_([due.target for due in runs])


def _still_placed(runs: Sequence[Due]) -> Select[uuid.UUID]:
    # Those that still wait where they were placed. One that somebody is just changing is left out: whoever
    # holds tasks without their jobs must not wait. Without `dispatched_at` it counts as long unclaimed.
    placed = tuple_(Task.id, Task.attempt, Task.placed_on).in_([(*due.target, due.worker) for due in runs])
    statement = select(Task.id).where(placed, Task.state == State.QUEUED)
    return statement.with_for_update(key_share=True, skip_locked=True)


def _update(session: Session, which: ColumnElement[bool], values: Mapping[Any, Any]) -> None:
    statement = update(Task).where(which).values(values)
    session.execute(statement, execution_options={"synchronize_session": False})


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
