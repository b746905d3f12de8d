"""The outbox: a message is a row first, committed together with what it tells about."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from sqlalchemy import func
from sqlalchemy.orm import Session

from labfleet.db.models import OutboxRow, Task

Kind = Literal["run", "cancel"]


def enqueue(session: Session, task: Task, kind: Kind, *, delay_seconds: float = 0) -> None:
    """Ask for the task's current attempt to be run or cancelled, not before the delay is over.

    A trigger of the table notifies `labfleet_outbox` when the transaction commits.
    """
    session.add(
        OutboxRow(
            kind=kind,
            task_id=task.id,
            attempt=task.attempt,
            next_try_at=func.clock_timestamp() + timedelta(seconds=delay_seconds),
        )
    )
    session.flush()
