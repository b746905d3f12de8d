"""What workers say of themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from labfleet.db.models import WorkerRow


@dataclass(frozen=True)
class Presence:
    """A worker's report; bytes for memory and disk."""

    keys: list[str]
    slots: int
    free_slots: int
    cores: int
    load1: float
    memory_free: int
    disk_free: int
    version: str


def report(session: Session, name: str, presence: Presence) -> None:
    """Remember the worker's report, with the database's time."""
    values = {**asdict(presence), "last_seen": func.clock_timestamp()}
    statement = insert(WorkerRow).values(name=name, **values)
    session.execute(statement.on_conflict_do_update(index_elements=[WorkerRow.name], set_=values))


def list_workers(session: Session) -> Sequence[WorkerRow]:
    """All workers that ever reported, by name."""
    return session.scalars(select(WorkerRow).order_by(WorkerRow.name)).all()
