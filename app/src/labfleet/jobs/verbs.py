"""What can be done to jobs and tasks that exist. Each verb names the states in which it is legal.

Every verb locks the job first, so that of two people who act in the same moment the second meets the
state that the first has left: what is done already is harmless, what is no longer possible is `WrongState`.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import ColumnElement, delete, false, select, true, update
from sqlalchemy.orm import Session

from labfleet.db.models import Job, Task, User
from labfleet.errors import Forbidden, WrongState
from labfleet.jobs import flow, outbox, transition
from labfleet.jobs.states import FINAL, Event, State
from labfleet.jobs.visible import get_job_row, get_task
from labfleet.users import audit
from labfleet.users.audit import Action

CANCELLED_EARLY = "Cancelled before it started."
# A task that begins anew has nothing of its earlier life but its place, and the number of its attempt.
_ANEW: Mapping[Any, Any] = {
    Task.attempt: Task.attempt + 1,
    Task.ready: False,
    Task.message: "",
    Task.failure: None,
    Task.progress: 0.0,
    Task.progress_text: "",
    Task.exit_code: None,
    Task.worker: None,
    Task.placed_on: None,
    Task.not_before: None,
    Task.dispatched_at: None,
    Task.started_at: None,
    Task.finished_at: None,
    Task.lease_until: None,
    Task.cancel_requested: False,
    Task.resends: 0,
    Task.reused_from: None,
}


def cancel(session: Session, viewer: User, job_id: uuid.UUID) -> None:
    """Cancel what waits, have stopped what runs. From queued and running; once more is harmless."""
    job = _locked(session, viewer, job_id, "cancel")
    if job.state == State.CANCELLED:
        return
    _require(job, "cancelled", not State(job.state).final, "There is nothing to cancel.")
    values = {Task.message: CANCELLED_EARLY, Task.cancel_requested: True}
    transition.apply_many(session, job, State.QUEUED, Event.CANCELLED, true(), values)
    running = select(Task.id).where(Task.job_id == job.id, Task.state == State.RUNNING)
    for task_id in session.scalars(running.order_by(Task.id)).all():
        flow.request_cancel(session, transition.lock_task_alone(session, task_id))
    flow.many_ended(session, job)


def retry(session: Session, viewer: User, job_id: uuid.UUID, *, max_attempts: int = 3) -> None:
    """Run again what did not succeed. From every final state but success."""
    job = _locked(session, viewer, job_id, "retry")
    _require(job, "retried", State(job.state).final, "Wait for its end, or cancel it first.")
    if job.state == State.SUCCESS and not job.tasks_forgiven:
        _require(job, "retried", False, "Everything succeeded; force-retry runs it again all the same.")
    _reopen(session, job, Task.state != State.SUCCESS, max_attempts, verb="retry")
    flow.begin(session, job)


def force_retry(session: Session, viewer: User, job_id: uuid.UUID, *, max_attempts: int = 3) -> None:
    """Run everything again, also what succeeded. From every final state."""
    job = _locked(session, viewer, job_id, "force-retry")
    _require(job, "retried", State(job.state).final, "Wait for its end, or cancel it first.")
    _reopen(session, job, true(), max_attempts, verb="force-retry")
    flow.begin(session, job)


def reset(session: Session, viewer: User, job_id: uuid.UUID, *, max_attempts: int = 3) -> None:
    """Back to the beginning, and held there until `resume`. From every final state."""
    job = _locked(session, viewer, job_id, "reset")
    _require(job, "reset", State(job.state).final, "Wait for its end, or cancel it first.")
    _hold(session, job, held=True)
    _reopen(session, job, true(), max_attempts, verb="reset")
    flow.begin(session, job)


def hold(session: Session, viewer: User, job_id: uuid.UUID) -> None:
    """Let nothing more of it begin; what runs goes on. From queued and running; once more is harmless."""
    job = _locked(session, viewer, job_id, "hold")
    _require(job, "held", not State(job.state).final, "It has ended.")
    _hold(session, job, held=True)


def resume(session: Session, viewer: User, job_id: uuid.UUID) -> None:
    """Let a held job go on. From queued and running; harmless for one that isn't held."""
    job = _locked(session, viewer, job_id, "resume")
    _require(job, "resumed", not State(job.state).final, "It has ended; retry or reset it first.")
    _hold(session, job, held=False)
    outbox.wake(session)


def remove(session: Session, viewer: User, job_id: uuid.UUID) -> None:
    """Delete it with its tasks, logs and artifacts. From every final state."""
    job = _locked(session, viewer, job_id, "delete")
    _require(job, "deleted", State(job.state).final, "Cancel it first.")
    outbox.withdraw(session, job)
    session.execute(delete(Job).where(Job.id == job.id))
    session.expunge_all()


def change(session: Session, viewer: User, job_id: uuid.UUID, changes: Mapping[str, Any]) -> None:
    """Change label, labels, note (always) or priority (what still waits is ordered by the new one)."""
    job = _locked(session, viewer, job_id, "change")
    priority = changes.get("priority", job.priority)
    if priority != job.priority and priority > viewer.max_priority and not viewer.is_admin:
        raise Forbidden(f"Your highest priority is {viewer.max_priority}, not {priority}.")
    for name in changes.keys() & {"label", "labels", "note", "priority"}:
        setattr(job, name, changes[name])
    session.flush()
    if "priority" in changes:
        _set_waiting(session, job, {Task.priority: priority})


def cancel_task(session: Session, viewer: User, task_id: uuid.UUID) -> None:
    """Cancel one task. From queued and running; once more is harmless."""
    job, task = _locked_task(session, viewer, task_id, "cancel")
    if task.state == State.CANCELLED:
        return
    _require(task, "cancelled", not State(task.state).final, "There is nothing to cancel.")
    if task.state == State.RUNNING:
        flow.request_cancel(session, task)
        return
    task.cancel_requested = True
    task.message = CANCELLED_EARLY
    transition.apply(session, task, Event.CANCELLED)
    flow.task_ended(session, job, task)


def retry_task(session: Session, viewer: User, task_id: uuid.UUID, *, max_attempts: int = 3) -> None:
    """Run one task again, and what was skipped for it. From its final states but success."""
    job, task = _locked_task(session, viewer, task_id, "retry")
    _require(task, "retried", State(task.state).final, "Wait for its end, or cancel it first.")
    _require(task, "retried", task.state != State.SUCCESS, "It succeeded; force-retry runs it all the same.")
    _require(task, "retried", not task.skipped, "It was skipped: retry the task that failed before it.")
    _reopen(session, job, (Task.id == task.id) | Task.skipped, max_attempts, verb="retry")
    flow.begin(session, job)


def force_retry_task(session: Session, viewer: User, task_id: uuid.UUID, *, max_attempts: int = 3) -> None:
    """Run one task again, whatever became of it. From its final states."""
    job, task = _locked_task(session, viewer, task_id, "force-retry")
    _require(task, "retried", State(task.state).final, "Wait for its end, or cancel it first.")
    _require(task, "retried", not task.skipped, "It was skipped: retry the task that failed before it.")
    _reopen(session, job, (Task.id == task.id) | Task.skipped, max_attempts, verb="force-retry")
    flow.begin(session, job)


def reset_task(session: Session, viewer: User, task_id: uuid.UUID, *, max_attempts: int = 3) -> None:
    """One task back to its beginning, and held there until `resume`. From its final states."""
    force_retry_task(session, viewer, task_id, max_attempts=max_attempts)
    _hold_task(session, task_id, held=True)


def resume_task(session: Session, viewer: User, task_id: uuid.UUID) -> None:
    """Let a held task go on. From queued and running; harmless for one that isn't held."""
    job, task = _locked_task(session, viewer, task_id, "resume")
    _require(task, "resumed", not State(task.state).final, "It has ended; retry or reset it first.")
    _require(task, "resumed", not job.held, "Its whole job is held: resume the job.")
    _hold_task(session, task_id, held=False)
    outbox.wake(session)


JOB_VERBS: Mapping[str, Callable[..., None]] = {
    "cancel": cancel,
    "retry": retry,
    "force-retry": force_retry,
    "reset": reset,
    "hold": hold,
    "resume": resume,
    "delete": remove,
}
TASK_VERBS: Mapping[str, Callable[..., None]] = {
    "cancel": cancel_task,
    "retry": retry_task,
    "force-retry": force_retry_task,
    "reset": reset_task,
    "resume": resume_task,
}
COUNTED = frozenset({"retry", "force-retry", "reset"})
"""Verbs that open new attempts, and want to be told how many (`max_attempts`)."""


def _locked(session: Session, viewer: User, job_id: uuid.UUID, verb: str) -> Job:
    get_job_row(session, viewer, job_id)
    job = transition.lock_job(session, job_id)
    _tell(session, viewer, job, verb)
    return job


def _locked_task(session: Session, viewer: User, task_id: uuid.UUID, verb: str) -> tuple[Job, Task]:
    get_task(session, viewer, task_id)
    task = transition.lock_task(session, task_id)
    job = session.get_one(Job, task.job_id)
    _tell(session, viewer, job, verb, task=str(task.id))
    return job, task


def _tell(session: Session, viewer: User, job: Job, verb: str, **detail: str) -> None:
    """What people do to their own jobs stands in the jobs' events; the audit log has what others do to them,
    and what has no events any more."""
    if verb == "delete":
        audit.record(session, Action.JOB_DELETED, str(job.id), label=job.label, owner=job.owner.name)
    elif viewer.id != job.owner_id:
        audit.record(session, Action.JOB_OF_ANOTHER, str(job.id), verb=verb, owner=job.owner.name, **detail)


def _require(row: Job | Task, done: str, condition: bool, hint: str) -> None:
    if not condition:
        kind = "job" if isinstance(row, Job) else "task"
        raise WrongState(
            f"The {kind} {row.id} can't be {done}: it is {row.state}.", hint=hint, state=str(row.state)
        )


def _reopen(session: Session, job: Job, which: ColumnElement[bool], max_attempts: int, *, verb: str) -> None:
    """Final tasks of the job become queued ones with a new attempt; `flow.begin` lets them run."""
    values = {
        **_ANEW,
        Task.held: true() if job.held else false(),
        # So many tries more, from the new attempt on.
        Task.max_attempts: Task.attempt + max_attempts,
        Task.priority: job.priority,
    }
    for state in sorted(FINAL):
        transition.apply_many(session, job, state, Event.REOPENED, which, values, verb=verb)


def _hold(session: Session, job: Job, *, held: bool) -> None:
    if job.held != held:
        job.held = held
        session.flush()
        _set_waiting(session, job, {Task.held: held})


def _set_waiting(session: Session, job: Job, values: Mapping[Any, Any]) -> None:
    waiting = (Task.job_id == job.id, Task.state == State.QUEUED)
    statement = update(Task).where(*waiting).values(values)
    session.execute(statement, execution_options={"synchronize_session": False})
    session.expire_all()


def _hold_task(session: Session, task_id: uuid.UUID, *, held: bool) -> None:
    waiting = (Task.id == task_id, Task.state == State.QUEUED)
    session.execute(
        update(Task).where(*waiting).values(held=held), execution_options={"synchronize_session": False}
    )
    session.expire_all()
