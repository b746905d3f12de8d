"""How busy the fleet was: one row a minute, written by the dispatcher, read by the pages.

Nothing is decided by these figures. No function commits; its caller does.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.orm import Session

from labfleet.config import OrderSection

EVERY_SECONDS = 60
KEPT_DAYS = 8
# Points of a plot: more of them nobody could see.
BINS = 96

# Of several dispatchers the first one of a minute writes it. Sums of the counts that jobs keep: one row for
# each job in progress, not for each task.
_TAKE = text("""
    INSERT INTO fleet_samples (at, workers, slots, busy, cores, load, queued, running)
    SELECT date_bin(make_interval(secs => :every), clock_timestamp(), 'epoch'),
        fleet.workers, fleet.slots, fleet.busy, fleet.cores, fleet.load, job.queued, job.running
    FROM (
        SELECT count(*) AS workers, coalesce(sum(slots), 0)::bigint AS slots,
            coalesce(sum(slots - free_slots), 0)::bigint AS busy, coalesce(sum(cores), 0)::bigint AS cores,
            coalesce(sum(load1), 0) AS load
        FROM workers WHERE last_seen > clock_timestamp() - make_interval(secs => :timeout)
    ) AS fleet, (
        SELECT coalesce(sum(tasks_queued), 0)::bigint AS queued,
            coalesce(sum(tasks_running), 0)::bigint AS running
        FROM jobs WHERE state IN ('queued', 'running')
    ) AS job
    ON CONFLICT (at) DO NOTHING
""")
_QUEUE = text("""
    SELECT coalesce(sum(tasks_queued), 0)::bigint FROM jobs WHERE state IN ('queued', 'running')
""")
_FORGET = text("DELETE FROM fleet_samples WHERE at < clock_timestamp() - make_interval(days => :days)")
# Of each bin the most of what there was: a queue that was long for a minute is to be seen.
_RECENT = text("""
    SELECT date_bin(make_interval(secs => :width), at, 'epoch') AS at, max(workers) AS workers,
        max(slots) AS slots, max(busy) AS busy, max(cores) AS cores, max(load) AS load,
        max(queued) AS queued, max(running) AS running
    FROM fleet_samples WHERE at > clock_timestamp() - make_interval(secs => :seconds)
    GROUP BY 1 ORDER BY 1
""")


@dataclass(frozen=True)
class Sample:
    """The fleet and the queue in one moment, or at most within a bin of time."""

    at: datetime
    workers: int
    slots: int
    busy: int
    cores: int
    load: float
    queued: int
    running: int


def take(session: Session, rules: OrderSection) -> None:
    """Write down this minute, if nobody has, and forget what is older than `KEPT_DAYS`."""
    session.execute(_TAKE, {"every": EVERY_SECONDS, "timeout": rules.presence_timeout_seconds})
    session.execute(_FORGET, {"days": KEPT_DAYS})


def recent(session: Session, hours: float = 24, bins: int = BINS) -> list[Sample]:
    """The last hours, the oldest first, in about `bins` pieces; those without a sample are left out."""
    seconds = hours * 3600
    rows = session.execute(_RECENT, {"seconds": seconds, "width": max(seconds / bins, EVERY_SECONDS)})
    return [Sample(**row) for row in rows.mappings()]


def queue_length(session: Session) -> int:
    """How many tasks wait now, of everybody."""
    return int(session.scalar(_QUEUE) or 0)
