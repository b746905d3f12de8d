"""Figures of the dispatcher: what it does, and how the queue stands."""

from __future__ import annotations

import threading
import time
from collections import Counter as Count

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, sessionmaker

from labfleet.config import OrderSection
from labfleet.jobs import fleet, health, order
from labfleet.jobs.explain import Code
from labfleet.jobs.needs import Needs
from labfleet.jobs.order import TAKEN, WAITS
from labfleet.jobs.placement import Fleet, Verdict
from labfleet.log import get_logger
from labfleet.metrics import SUM, Counter, Gauge

_log = get_logger(__name__)
PAUSE_SECONDS = 15.0
SHARE = 0.01
"""At most this part of the time the database counts for us: a count that took long comes less often."""
LIMIT_MILLISECONDS = 20_000
"""A count that takes longer is given up."""

PLACED = Counter("labfleet_placements", "Tasks that were given to a worker.")
SENT = Counter("labfleet_messages_sent", "Messages of the outbox by what the queue tier said.", ["status"])
LAPSED = Counter("labfleet_leases_lapsed", "Attempts whose worker was not heard of in time.")
RESENT = Counter("labfleet_resends", "Tasks taken from a worker that did not begin them, to be placed anew.")
ROUND = Gauge(
    "labfleet_dispatcher_round_seconds", "When it came round last (since 1970).", multiprocess_mode=SUM
)

TASKS = Gauge("labfleet_tasks", "Tasks of jobs in progress.", ["state"], multiprocess_mode=SUM)
WAITING = Gauge(
    "labfleet_tasks_waiting", "Queued tasks by why they wait.", ["key", "reason"], multiprocess_mode=SUM
)
OUTBOX_ROWS = Gauge(
    "labfleet_outbox_messages", "Messages the broker has not confirmed.", multiprocess_mode=SUM
)
OUTBOX_AGE = Gauge("labfleet_outbox_oldest_seconds", "Age of the oldest of them.", multiprocess_mode=SUM)
COUNTED = Gauge(
    "labfleet_queue_counted_seconds", "When the queue was counted (since 1970).", multiprocess_mode=SUM
)
COUNTING = Gauge("labfleet_queue_counting_seconds", "How long that took.", multiprocess_mode=SUM)
WORKER = {
    name: Gauge(f"labfleet_worker_{name}", f"{what}, by worker.", ["worker"], multiprocess_mode=SUM)
    for name, what in {
        "slots": "Slots",
        "taken": "Tasks that were given to it and have not ended",
        "load": "Load average of the last minute",
        "cores": "Cores",
        "silent_seconds": "Time since its last report",
        "usable": "Whether it gets new tasks (1) or not (0)",
    }.items()
}

# Sums of the counts that jobs keep: one row for each job in progress, not for each task.
JOBS = """
SELECT coalesce(sum(tasks_queued), 0)::bigint AS queued, coalesce(sum(tasks_running), 0)::bigint AS running
FROM jobs WHERE state IN ('queued', 'running')
"""
# From the indexes alone.
LANES = f"SELECT lane, count(*) AS tasks FROM tasks WHERE {WAITS} GROUP BY lane"  # noqa: S608
PLACED_NOW = f"SELECT key, count(*) AS tasks FROM tasks WHERE {TAKEN} AND state = 'queued' GROUP BY key"  # noqa: S608
REASONS = {
    Verdict.ROOM: Code.BEHIND_OTHERS,
    Verdict.RESERVED: Code.RESERVED,
    Verdict.LOADED: Code.WORKERS_LOADED,
    Verdict.CORES: Code.WORKERS_FULL,
    Verdict.FULL: Code.WORKERS_FULL,
}
# What was told before: a figure that is kept in a file can't be taken back, only be set to nothing.
_told: dict[str, set[tuple[str, ...]]] = {"workers": set(), "waiting": set()}
NOT_READY = "held_or_waits_for_earlier_tasks"


class Watcher(threading.Thread):
    """Counts the queue now and then, beside the dispatcher's own work, until `stop`."""

    def __init__(self, sessions: sessionmaker[Session], rules: OrderSection) -> None:
        super().__init__(name="figures", daemon=True)
        self._sessions = sessions
        self._rules = rules
        self._end = threading.Event()

    def run(self) -> None:
        """Count, wait, again."""
        took = 0.0
        while not self._end.wait(max(PAUSE_SECONDS, took / SHARE) if took else 0.0):
            began = time.monotonic()
            try:
                with self._sessions() as session:
                    look(session, self._rules)
            except DBAPIError as error:
                _log.warning("the queue was not counted", error=str(error).splitlines()[0])
            took = max(time.monotonic() - began, 0.001)
            COUNTING.set(took)

    def stop(self) -> None:
        """End; a count that goes on is not waited for."""
        self._end.set()


def look(session: Session, rules: OrderSection) -> None:
    """Count the queue, the outbox and the workers once."""
    session.execute(text(f"SET LOCAL statement_timeout = {LIMIT_MILLISECONDS}"))
    box = health.outbox(session)
    OUTBOX_ROWS.set(box.rows)
    OUTBOX_AGE.set(box.oldest_seconds)
    now = fleet.load(session, rules)
    _workers(now)
    _queue(session, now)
    COUNTED.set(time.time())


def _workers(now: Fleet) -> None:
    for labels in _told["workers"] - {(worker.name,) for worker in now.workers}:
        for gauge in WORKER.values():
            gauge.labels(*labels).set(0)
    _told["workers"] = {(worker.name,) for worker in now.workers}
    for worker in now.workers:
        told = {
            "slots": worker.slots,
            "taken": worker.taken,
            "load": worker.load,
            "cores": worker.cores,
            "silent_seconds": worker.silent_seconds,
            "usable": int(worker.usable),
        }
        for name, value in told.items():
            WORKER[name].labels(worker.name).set(value)


def _queue(session: Session, now: Fleet) -> None:
    jobs = session.execute(text(JOBS)).one()
    needs = {pair.lane: pair.needs for pair in order.waiting(session)}
    waiting: Count[tuple[str, ...]] = Count()
    for lane in session.execute(text(LANES)):
        if lane.lane in needs:
            waiting[needs[lane.lane].key, str(reason(now, needs[lane.lane]))] += lane.tasks
    for row in session.execute(text(PLACED_NOW)):
        waiting[row.key, str(Code.PLACED)] += row.tasks
    # What no index lists; the two counts are of two moments, so it may be off for a while.
    if (rest := jobs.queued - sum(waiting.values())) > 0:
        waiting["", NOT_READY] = rest
    TASKS.labels("queued").set(jobs.queued)
    TASKS.labels("running").set(jobs.running)
    for labels in _told["waiting"] - set(waiting):
        WAITING.labels(*labels).set(0)
    _told["waiting"] = set(waiting)
    for labels, tasks in waiting.items():
        WAITING.labels(*labels).set(tasks)


def reason(now: Fleet, needs: Needs) -> str:
    """Why tasks with such needs wait, as `labfleet queue explain` would say of the first of them."""
    able = [worker for worker in now.workers if worker.can(needs)]
    if not able:
        return Code.NO_SUCH_WORKER
    if not any(worker.usable for worker in able):
        drained = any(worker.draining and not worker.away for worker in able)
        return Code.DRAINING if drained else Code.WORKERS_AWAY
    return REASONS[now.verdict(needs)]
