"""What workers say of themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from labfleet.db.models import WorkerRow


@dataclass(frozen=True)
class Presence:
    """A worker's report; bytes for memory and disk. `draining` is no part of it: an admin says that."""

    keys: list[str]
    slots: int
    free_slots: int
    cores: int
    load1: float
    memory_free: int
    disk_free: int
    version: str
    memory_total: int = 0
    tags: list[str] = field(default_factory=list)
    stopping: bool = False
    environment: dict[str, str] = field(default_factory=dict)


def report(session: Session, name: str, presence: Presence) -> bool:
    """Remember the worker's report, with the database's time; whether the worker is drained."""
    values = {**asdict(presence), "last_seen": func.clock_timestamp()}
    statement = insert(WorkerRow).values(name=name, **values)
    statement = statement.on_conflict_do_update(index_elements=[WorkerRow.name], set_=values)
    return session.execute(statement.returning(WorkerRow.draining)).scalar_one()


def list_workers(session: Session) -> Sequence[WorkerRow]:
    """All workers that ever reported, by name."""
    return session.scalars(select(WorkerRow).order_by(WorkerRow.name)).all()
