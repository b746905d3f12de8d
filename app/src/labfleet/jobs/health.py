"""How the work flows, in few figures: what is stuck, who is silent, what nobody can run.

Every statement is answered from an index or from a table that stays small, whatever the length of the queue.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.orm import Session

from labfleet.config import OrderSection
from labfleet.jobs import fleet, order
from labfleet.jobs.needs import Needs
from labfleet.jobs.placement import Worker

OUTBOX = """
SELECT count(*) AS rows,
    coalesce(extract(epoch FROM clock_timestamp() - min(created_at)), 0)::float AS oldest,
    coalesce((SELECT last_error FROM outbox ORDER BY created_at LIMIT 1), '') AS error
FROM outbox
"""
OVERDUE = """
SELECT count(*) FROM tasks
WHERE state = 'running' AND lease_until < clock_timestamp() - make_interval(secs => :seconds)
"""
# The newest events by their number: there is no index on their time.
LAPSED = """
SELECT coalesce(detail ->> 'worker', '?') AS worker, count(*) AS times
FROM (SELECT event, at, detail FROM events ORDER BY id DESC LIMIT :look_back) AS newest
WHERE event = 'lease_lapsed' AND at > clock_timestamp() - make_interval(secs => :seconds)
GROUP BY worker ORDER BY times DESC, worker
"""


@dataclass(frozen=True)
class Outbox:
    """Messages that the broker has not confirmed: how many, since when the oldest, and its last error."""

    rows: int
    oldest_seconds: float
    error: str


@dataclass(frozen=True)
class Lane:
    """Tasks wait that need this, and no worker of the fleet, away or not, has it."""

    needs: Needs


def outbox(session: Session) -> Outbox:
    """What waits to be sent."""
    row = session.execute(text(OUTBOX)).one()
    return Outbox(row.rows, row.oldest, row.error)


def overdue(session: Session, seconds: float) -> int:
    """Running tasks whose lease lapsed so long ago that the dispatcher should have noticed."""
    return int(session.execute(text(OVERDUE), {"seconds": seconds}).scalar_one())


def lapsed(session: Session, seconds: float, look_back: int) -> dict[str, int]:
    """Worker → leases of it that lapsed lately, among the newest `look_back` events."""
    values = {"seconds": seconds, "look_back": look_back}
    return {row.worker: row.times for row in session.execute(text(LAPSED), values)}


def workers(session: Session, rules: OrderSection) -> list[Worker]:
    """The workers as the dispatcher sees them, by name."""
    return list(fleet.load(session, rules).workers)


def unservable(session: Session, known: list[Worker]) -> list[Lane]:
    """What tasks wait for that none of these workers has."""
    lanes = {pair.lane: pair.needs for pair in order.waiting(session)}
    return [Lane(needs) for needs in lanes.values() if not any(one.can(needs) for one in known)]
