"""How an attempt ends: by its worker's word, or because nothing was heard of it."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import timedelta

from sqlalchemy import func
from sqlalchemy.orm import Session

from labfleet.db.models import Attempt, Job, Task
from labfleet.errors import AttemptSuperseded, Invalid
from labfleet.jobs import flow, outbox, transition
from labfleet.jobs.attempts import require_running
from labfleet.jobs.states import Event, Failure, Outcome, State

MAX_MESSAGE = 4000
LAPSED = "lapsed"


@dataclass(frozen=True)
class Ending:
    """What the worker says. `failure` belongs to the outcome `failed` and to no other. `usage` is what the
    run used (seconds, bytes), `environment` what its result depends on."""

    outcome: Outcome
    failure: Failure | None = None
    exit_code: int | None = None
    message: str = ""
    usage: dict[str, float] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise `Invalid` where outcome and failure contradict each other."""
        if (self.outcome is Outcome.FAILED) != (self.failure is not None):
            raise Invalid("'failure' (user or system) is given with the outcome 'failed', and only with it.")


def finish(
    session: Session, task_id: uuid.UUID, number: int, ending: Ending, *, retry_seconds: float = 0
) -> Task:
    """End the attempt. A system failure opens the next attempt until there were `max_attempts`.

    `stopped` is a cancellation if one was asked for, else the attempt was handed back. The same ending
    again is answered alike; anything else after the end is `AttemptSuperseded` or `TaskFinal`.
    """
    task = transition.lock_task(session, task_id)
    attempt = session.get(Attempt, (task_id, number), with_for_update=True, populate_existing=True)
    if attempt is None:  # it was never claimed
        raise AttemptSuperseded(f"Attempt {number} of task {task_id} is not claimed.")
    if attempt.ended_at is not None and attempt.outcome == ending.outcome:
        return task
    require_running(task, number)
    task.exit_code = ending.exit_code
    task.message = ending.message[:MAX_MESSAGE]
    _close_attempt(attempt, ending.outcome, task.message)
    attempt.exit_code = ending.exit_code
    attempt.usage, attempt.environment = ending.usage, ending.environment
    _end(session, task, ending, retry_seconds)
    _move_on(session, task)
    return task


def lapse(session: Session, task: Task) -> None:
    """End the (locked, running) task's attempt because its lease has lapsed."""
    message = (
        f"Nothing was heard of the worker '{task.worker}' until the lease of attempt {task.attempt} lapsed."
    )
    attempt = session.get_one(Attempt, (task.id, task.attempt), with_for_update=True, populate_existing=True)
    _close_attempt(attempt, LAPSED, message)
    task.message = message
    if task.cancel_requested:
        transition.apply(session, task, Event.CANCELLED, reason=LAPSED)
    elif task.attempt < task.max_attempts:
        transition.apply(session, task, Event.LEASE_LAPSED, worker=task.worker)
        _next_attempt(session, task, 0)
    else:
        _fail(session, task, Failure.SYSTEM, _exhausted(task))
    _move_on(session, task)


def _move_on(session: Session, task: Task) -> None:
    if State(task.state).final:
        flow.task_ended(session, session.get_one(Job, task.job_id), task)
    else:
        outbox.wake(session)  # its next attempt waits, and a slot is free


def _end(session: Session, task: Task, ending: Ending, retry_seconds: float) -> None:
    match ending.outcome:
        case Outcome.SUCCESS:
            task.progress = 1
            transition.apply(session, task, Event.SUCCEEDED)
        case Outcome.PARTIAL:
            transition.apply(session, task, Event.CANCELLED if task.cancel_requested else Event.PARTIAL)
        case Outcome.INAPPLICABLE:
            transition.apply(session, task, Event.INAPPLICABLE)
        case Outcome.STOPPED:
            _stopped(session, task)
        case Outcome.FAILED:
            _failed(session, task, ending.failure, retry_seconds)


def _stopped(session: Session, task: Task) -> None:
    if task.cancel_requested:
        task.message = task.message or "Cancelled while it ran."
        transition.apply(session, task, Event.CANCELLED)
        return
    transition.apply(session, task, Event.HANDED_BACK, worker=task.worker)
    task.max_attempts += 1  # an orderly stop of a worker is nobody's failure
    _next_attempt(session, task, 0)


def _failed(session: Session, task: Task, failure: Failure | None, retry_seconds: float) -> None:
    if task.cancel_requested:
        transition.apply(session, task, Event.CANCELLED)
    elif failure is Failure.SYSTEM and task.attempt < task.max_attempts:
        transition.apply(session, task, Event.RETRIED, reason=task.message)
        _next_attempt(session, task, retry_seconds * 2 ** min(task.attempt - 1, 6))
    elif failure is Failure.SYSTEM:
        _fail(session, task, failure, _exhausted(task))
    else:
        _fail(session, task, failure, task.message)


def _fail(session: Session, task: Task, failure: Failure | None, message: str) -> None:
    task.failure = failure
    task.message = message[:MAX_MESSAGE]
    transition.apply(session, task, Event.FAILED, failure=failure)


def _exhausted(task: Task) -> str:
    return f"Given up after {task.attempt} attempts. {task.message}".strip()


def _next_attempt(session: Session, task: Task, delay_seconds: float) -> None:
    task.attempt += 1
    task.resends = 0
    task.dispatched_at = task.lease_until = task.started_at = task.exit_code = None
    task.worker = task.placed_on = None
    task.not_before = transition.now(session) + timedelta(seconds=delay_seconds) if delay_seconds else None
    task.progress, task.progress_text = 0, ""
    session.flush()


def _close_attempt(attempt: Attempt, outcome: str, message: str) -> None:
    attempt.ended_at = func.clock_timestamp()
    attempt.outcome = outcome
    attempt.message = message
