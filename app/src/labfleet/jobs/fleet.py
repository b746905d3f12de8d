"""The fleet as the database knows it: the workers, what is placed on them, and what is kept for whom.

No function commits; its caller does.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from sqlalchemy import RowMapping, bindparam, select, text
from sqlalchemy.dialects.postgresql import ARRAY, UUID
from sqlalchemy.orm import Session

from labfleet.config import OrderSection
from labfleet.db.models import Reservation, WorkerRow
from labfleet.errors import Conflict, Invalid, NotFound
from labfleet.jobs import outbox
from labfleet.jobs.order import TAKEN
from labfleet.jobs.placement import Fleet, Worker
from labfleet.names import is_key
from labfleet.users import audit
from labfleet.users.audit import Action

WORKERS = f"""
SELECT name, keys, tags, slots, cores, memory_total, load1, stopping, draining,
    extract(epoch FROM clock_timestamp() - last_seen)::float AS silent_seconds,
    placed.taken, placed.taken_cores, placed.fresh_cores, placed.taken_long, coalesce(ended.tasks, 0) AS ended
FROM workers
CROSS JOIN LATERAL (
    -- The load average looks back over a minute: what began since then hardly shows in it.
    SELECT count(*) AS taken, coalesce(sum(cores), 0)::bigint AS taken_cores,
        coalesce(sum(cores) FILTER (
            WHERE started_at IS NULL OR started_at > clock_timestamp() - interval '1 minute'
        ), 0)::bigint AS fresh_cores,
        count(*) FILTER (WHERE wall_seconds > :short) AS taken_long
    FROM tasks WHERE {TAKEN} AND placed_on = workers.name
) AS placed
-- Of the tasks that were placed just now, those that have run and ended already.
LEFT JOIN (
    SELECT placed_on, count(*) AS tasks FROM tasks
    WHERE id = ANY(:recent) AND started_at IS NOT NULL
        AND finished_at > clock_timestamp() - make_interval(secs => :ahead)
    GROUP BY placed_on
) AS ended ON ended.placed_on = workers.name
ORDER BY name
"""  # noqa: S608 - constants of this package


_WORKERS = text(WORKERS).bindparams(bindparam("recent", type_=ARRAY(UUID)))


def load(session: Session, rules: OrderSection, recent: Sequence[uuid.UUID] = ()) -> Fleet:
    """All workers that ever reported, with what they have; a silent one is away.

    `recent` are tasks placed within the last seconds: those that have ended tell how fast their workers are.
    """
    values = {"short": rules.short_seconds, "ahead": rules.ahead_seconds, "recent": list(recent)}
    workers = [
        _worker(row, rules.presence_timeout_seconds) for row in session.execute(_WORKERS, values).mappings()
    ]
    return Fleet(workers, {kept.key: kept.slots for kept in reservations(session)}, rules)


def _worker(row: RowMapping, timeout: float) -> Worker:
    return Worker(
        name=row["name"],
        keys=frozenset(row["keys"]),
        tags=frozenset(row["tags"]),
        slots=row["slots"],
        cores=row["cores"],
        memory_bytes=row["memory_total"],
        load=row["load1"],
        away=row["silent_seconds"] > timeout,
        stopping=row["stopping"],
        draining=row["draining"],
        silent_seconds=row["silent_seconds"],
        taken=row["taken"],
        taken_cores=row["taken_cores"],
        fresh_cores=row["fresh_cores"],
        taken_long=row["taken_long"],
        ended=row["ended"],
    )


def described(session: Session, rules: OrderSection) -> list[tuple[WorkerRow, Worker]]:
    """Every worker as it last reported, with what the dispatcher makes of it, by name."""
    rows = {row.name: row for row in session.scalars(select(WorkerRow))}
    return [(rows[one.name], one) for one in load(session, rules).workers if one.name in rows]


def drain(session: Session, name: str, *, draining: bool) -> None:
    """Give the worker no new tasks (what runs there goes on), or again; `NotFound` if there is none."""
    _get(session, name).draining = draining
    audit.record(session, Action.WORKER_DRAINED if draining else Action.WORKER_RESUMED, name)
    session.flush()
    outbox.wake(session)


def remove(session: Session, name: str, rules: OrderSection) -> None:
    """Forget a worker that is gone for good. Raises `NotFound`, or `Conflict` while it still reports."""
    _get(session, name)
    worker = next(worker for worker in load(session, rules).workers if worker.name == name)
    if not worker.away:
        raise Conflict(
            f"The worker '{name}' reported {worker.silent_seconds:.0f} s ago; it is still there.",
            hint=f"Stop labfleet-worker.service on it, wait {rules.presence_timeout_seconds:g} s, try again.",
        )
    session.delete(session.get_one(WorkerRow, name))
    audit.record(session, Action.WORKER_REMOVED, name)
    session.flush()
    outbox.wake(session)


def _get(session: Session, name: str) -> WorkerRow:
    worker = session.get(WorkerRow, name, with_for_update=True, populate_existing=True)
    if worker is None:
        raise NotFound(f"There is no worker '{name}'.", hint="'labfleet workers' lists the workers.")
    return worker


def reservations(session: Session) -> Sequence[Reservation]:
    """What is kept for which key, by key."""
    return session.scalars(select(Reservation).order_by(Reservation.key)).all()


def get_reservation(session: Session, key: str) -> Reservation:
    """What is kept for this key; `NotFound` if nothing is."""
    found = session.get(Reservation, key, populate_existing=True)
    if found is None:
        raise NotFound(
            f"Nothing is reserved for the key '{key}'.", hint="'labfleet reservation list' lists what is."
        )
    return found


def reserve(session: Session, key: str, slots: int) -> Reservation:
    """Keep so many free slots for tasks of this key; `Invalid` for a number below 1 or what is no key."""
    if not is_key(key):
        raise Invalid(f"'{key}' is no key that a protocol can name.")
    if slots < 1:
        raise Invalid("slots: a reservation is of 1 slot at least.", hint="Remove it to keep no slot.")
    reservation = session.merge(Reservation(key=key, slots=slots))
    audit.record(session, Action.RESERVATION_CHANGED, key, slots=slots)
    session.flush()
    outbox.wake(session)
    return reservation


def unreserve(session: Session, key: str) -> None:
    """Keep nothing for this key any more; `NotFound` if nothing was."""
    session.delete(get_reservation(session, key))
    audit.record(session, Action.RESERVATION_DELETED, key)
    session.flush()
    outbox.wake(session)
