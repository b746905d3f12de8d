"""The outbox: a message is a row first, committed together with what it tells about.

That a task is to run is said by its own row (queued, ready, nowhere placed); the dispatcher puts it into the
outbox when the fleet can take it. That a running task is to be cancelled goes into the outbox at once.
"""

from __future__ import annotations

from typing import Literal

from sqlalchemy import delete, select, text
from sqlalchemy.orm import Session

from labfleet.db.models import Job, OutboxRow, Task

Kind = Literal["run", "cancel"]
CHANNEL = "labfleet_outbox"


def enqueue(session: Session, task: Task, kind: Kind) -> None:
    """Have a message sent about the task's current attempt.

    A trigger of the table wakes the dispatcher when the transaction commits.
    """
    session.add(OutboxRow(kind=kind, task_id=task.id, attempt=task.attempt))
    session.flush()


def withdraw(session: Session, job: Job) -> None:
    """Take back all messages about the (locked, final) job; one that is just being sent is waited for.

    Who sends it writes events, which refer to job and tasks: it must have ended before these are deleted, for
    it would wait for their deletion, and the deletion for its message.
    """
    tasks = select(Task.id).where(Task.job_id == job.id)
    session.execute(
        delete(OutboxRow).where(OutboxRow.task_id.in_(tasks)),
        execution_options={"synchronize_session": False},
    )


def wake(session: Session) -> None:
    """Wake the dispatcher when the transaction commits: a task may run, or a slot is free."""
    session.execute(text("SELECT pg_notify(:channel, '')"), {"channel": CHANNEL})
