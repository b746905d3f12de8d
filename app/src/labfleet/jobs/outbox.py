"""The outbox: a message is a row first, committed together with what it tells about.

That a task is to run is said by its own row (queued, ready, nowhere placed); the dispatcher puts it into the
outbox when the fleet can take it. That a running task is to be cancelled goes into the outbox at once.
"""

from __future__ import annotations

from typing import Literal

from sqlalchemy import text
from sqlalchemy.orm import Session

from labfleet.db.models import OutboxRow, Task

Kind = Literal["run", "cancel"]
CHANNEL = "labfleet_outbox"


def enqueue(session: Session, task: Task, kind: Kind) -> None:
    """Have a message sent about the task's current attempt.

    A trigger of the table wakes the dispatcher when the transaction commits.
    """
    session.add(OutboxRow(kind=kind, task_id=task.id, attempt=task.attempt))
    session.flush()


def wake(session: Session) -> None:
    """Wake the dispatcher when the transaction commits: a task may run, or a slot is free."""
    session.execute(text("SELECT pg_notify(:channel, '')"), {"channel": CHANNEL})
