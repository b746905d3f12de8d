"""One attempt as its worker sees it: claim, heartbeat, log, artifacts, finish.

Fencing: every call names its attempt, and only the current one is heard; an older one gets
`AttemptSuperseded`. No function commits; its caller does.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import NoReturn

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from labfleet.datasets.sweep import touch
from labfleet.db.models import Artifact, Attempt, Task
from labfleet.errors import AlreadyClaimed, AttemptSuperseded, Invalid, LogGap, TaskCancelled, TaskFinal
from labfleet.jobs import transition
from labfleet.jobs.states import Event, State

MAX_PROGRESS_TEXT = 500


@dataclass(frozen=True)
class LogChunk:
    """Where to write: `position` in the log, after leaving out the chunk's first `skip` bytes."""

    position: int
    skip: int


@dataclass(frozen=True)
class NewArtifact:
    """A result file whose bytes are in the store already."""

    name: str
    kind: str
    media_type: str
    sha256: str
    size: int
    output: str | None = None


def claim(
    session: Session, task_id: uuid.UUID, number: int, worker: str, claim_id: str, *, lease_seconds: float
) -> Task:
    """Compare-and-set `queued → running`; opens the lease. The same `claim_id` again is answered alike.

    Raises `AlreadyClaimed`, `AttemptSuperseded`, `TaskCancelled` or `TaskFinal`.
    """
    task = _current(transition.lock_task(session, task_id), number)
    if task.state == State.RUNNING:
        return _claimed_before(session, task, claim_id)
    if not task.ready or task.held:
        raise AttemptSuperseded(f"Attempt {number} of task {task_id} is not to run now.")
    task.worker = task.placed_on = worker
    task.started_at = func.clock_timestamp()
    task.lease_until = func.clock_timestamp() + timedelta(seconds=lease_seconds)
    task.progress, task.progress_text, task.message = 0, "", ""
    session.add(Attempt(task_id=task.id, number=number, worker=worker, claim_id=claim_id))
    transition.apply(session, task, Event.CLAIMED, worker=worker)
    return task


def heartbeat(
    session: Session,
    task_id: uuid.UUID,
    number: int,
    *,
    lease_seconds: float,
    progress: float | None = None,
    progress_text: str | None = None,
) -> bool:
    """Extend the lease by the database's clock and note the progress; whether to cancel."""
    if progress is not None and not 0 <= progress <= 1:
        raise Invalid(f"Progress lies between 0 and 1, not at {progress}.")
    values: dict[str, object] = {"lease_until": func.clock_timestamp() + timedelta(seconds=lease_seconds)}
    if progress is not None:
        values["progress"] = progress
    if progress_text is not None:
        values["progress_text"] = progress_text[:MAX_PROGRESS_TEXT]
    running = (Task.id == task_id, Task.attempt == number, Task.state == State.RUNNING)
    statement = update(Task).where(*running).values(values).returning(Task.cancel_requested)
    cancel = session.execute(statement, execution_options={"synchronize_session": False}).scalar_one_or_none()
    if cancel is None:
        _refuse(session, task_id, number)
    return cancel


def require_current(session: Session, task_id: uuid.UUID, number: int) -> Task:
    """The task if this attempt is the one that runs now (for reads and uploads); else the reason's error.

    It is locked without its job, so that uploads of one job's tasks don't wait for each other.
    """
    return require_running(transition.lock_task_alone(session, task_id), number)


def append_log_position(
    session: Session, task_id: uuid.UUID, number: int, offset: int, size: int
) -> LogChunk:
    """Where a chunk of `size` bytes sent for `offset` goes; the log counts as that much longer.

    Bytes that are there already are skipped. The attempt stays locked until the commit, so write the
    file before it. Raises `LogGap` with `expected_offset` if bytes before `offset` are missing.
    """
    require_current(session, task_id, number)
    attempt = _attempt(session, task_id, number)
    known = attempt.log_size
    if offset > known:
        raise LogGap(f"The log ends at {known}, not at {offset}.", expected_offset=known)
    skip = min(known - offset, size)
    attempt.log_size = known + size - skip
    session.flush()
    return LogChunk(position=known, skip=skip)


def record_artifact(session: Session, task_id: uuid.UUID, number: int, new: NewArtifact) -> Artifact:
    """Note an artifact of the current attempt; the same name and content again returns the same row.

    Another content under the same name replaces it: only a repeated upload can do that.
    """
    require_current(session, task_id, number)
    touch(session, new.sha256, new.size)
    content = {
        "kind": new.kind,
        "media_type": new.media_type,
        "sha256": new.sha256,
        "size": new.size,
        "output": new.output,
    }
    statement = insert(Artifact).values(task_id=task_id, attempt=number, name=new.name, **content)
    statement = statement.on_conflict_do_update(
        index_elements=[Artifact.task_id, Artifact.attempt, Artifact.name], set_=content
    )
    return session.scalars(statement.returning(Artifact), execution_options={"populate_existing": True}).one()


def log_size(session: Session, task_id: uuid.UUID, number: int) -> int:
    """How many bytes of the attempt's log have arrived; 0 before its claim."""
    statement = select(Attempt.log_size).where(Attempt.task_id == task_id, Attempt.number == number)
    return session.scalar(statement) or 0


def _current(task: Task, number: int) -> Task:
    if number != task.attempt:
        raise AttemptSuperseded(f"Attempt {number} of task {task.id} is not the current one, {task.attempt}.")
    if task.state == State.CANCELLED:
        raise TaskCancelled(f"Task {task.id} was cancelled.")
    if State(task.state).final:
        raise TaskFinal(f"Task {task.id} has ended: {task.state}.")
    return task


def require_running(task: Task, number: int) -> Task:
    """The (locked) task if this attempt is the one that runs now; else the reason's error."""
    if _current(task, number).state != State.RUNNING:
        raise AttemptSuperseded(f"Attempt {number} of task {task.id} is not claimed.")
    return task


def _claimed_before(session: Session, task: Task, claim_id: str) -> Task:
    if _attempt(session, task.id, task.attempt).claim_id != claim_id:
        raise AlreadyClaimed(f"Attempt {task.attempt} of task {task.id} runs on {task.worker}.")
    return task


def _attempt(session: Session, task_id: uuid.UUID, number: int) -> Attempt:
    return session.get_one(Attempt, (task_id, number), with_for_update=True, populate_existing=True)


def _refuse(session: Session, task_id: uuid.UUID, number: int) -> NoReturn:
    require_current(session, task_id, number)
    raise AttemptSuperseded(f"Attempt {number} of task {task_id} has just ended.")
