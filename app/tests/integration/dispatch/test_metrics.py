"""Figures of the queue: by state and reason, of outbox and workers, and what they cost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from prometheus_client import REGISTRY
from sqlalchemy import func, text, update
from sqlalchemy.orm import Session, sessionmaker

from labfleet.config import OrderSection
from labfleet.db.models import Job, OutboxRow, Task, User, WorkerRow
from labfleet.dispatch import metrics

Sessions = sessionmaker[Session]
RULES = OrderSection()


def told(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


def look(sessions: Sessions) -> None:
    with sessions() as session:
        metrics.look(session, RULES)


def test_the_queue_by_reason_outbox_and_workers(
    sessions: Sessions, user: User, make_worker: Any, make_tasks: Any
) -> None:
    make_worker("w1", keys=["python"], slots=2, load1=1.5)
    make_worker("w2", keys=["julia"], last_seen=datetime.now(UTC) - timedelta(minutes=5))
    placed, running, held, *_ = make_tasks(user, 6)
    make_tasks(user, 3, key="r")
    make_tasks(user, 4, key="julia")
    with sessions.begin() as session:
        session.execute(update(Task).where(Task.id == placed).values(placed_on="w1"))
        session.execute(update(Task).where(Task.id == running).values(placed_on="w1", state="running"))
        session.execute(update(Task).where(Task.id == held).values(held=True))
        of_first = Job.id == session.get_one(Task, held).job_id
        session.execute(update(Job).where(of_first).values(tasks_queued=5, tasks_running=1, state="running"))
        minute = func.clock_timestamp() - timedelta(minutes=1)
        session.add(OutboxRow(kind="run", task_id=placed, attempt=1, created_at=minute))
    look(sessions)
    assert told("labfleet_tasks", state="queued") == 12
    assert told("labfleet_tasks", state="running") == 1
    assert told("labfleet_tasks_waiting", key="python", reason="workers_full") == 3
    assert told("labfleet_tasks_waiting", key="python", reason="placed") == 1
    assert told("labfleet_tasks_waiting", key="r", reason="no_such_worker") == 3
    assert told("labfleet_tasks_waiting", key="julia", reason="workers_away") == 4
    assert told("labfleet_tasks_waiting", key="", reason="held_or_waits_for_earlier_tasks") == 1
    assert told("labfleet_outbox_messages") == 1
    assert 60 <= (told("labfleet_outbox_oldest_seconds") or 0) < 120
    assert (told("labfleet_worker_taken", worker="w1"), told("labfleet_worker_load", worker="w1")) == (2, 1.5)
    assert (told("labfleet_worker_usable", worker="w1"), told("labfleet_worker_usable", worker="w2")) == (
        1,
        0,
    )
    with sessions.begin() as session:
        session.execute(update(WorkerRow).where(WorkerRow.name == "w2").values(last_seen=func.now()))
    look(sessions)
    assert told("labfleet_tasks_waiting", key="julia", reason="workers_away") == 0
    with sessions.begin() as session:
        session.execute(text("DELETE FROM workers WHERE name = 'w2'"))
    look(sessions)
    assert told("labfleet_worker_slots", worker="w2") == 0


def test_counting_reads_no_tasks_but_those_that_wait(
    sessions: Sessions, user: User, make_worker: Any, make_tasks: Any
) -> None:
    """Tasks that have ended cost nothing, however many there are: every plan goes by an index."""
    make_worker("w1")
    make_tasks(user, 3000)
    with sessions.begin() as session:
        session.execute(update(Task).values(state="success"))
        session.execute(update(Job).values(state="success", tasks_queued=0))
    make_tasks(user, 50)
    with sessions() as session:
        session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
        session.execute(text("VACUUM ANALYZE tasks, jobs"))
        # Whether there is an index to go by, not what this little table's statistics make of it today.
        session.execute(text("SET enable_seqscan = off"))
        for statement in (metrics.LANES, metrics.PLACED_NOW):
            plan = "\n".join(session.scalars(text(f"EXPLAIN {statement}")))
            assert "Seq Scan on tasks" not in plan, plan


def test_the_watcher_outlives_a_database_that_refuses(sessions: Sessions, user: User) -> None:
    metrics.COUNTED.set(0)
    watcher = metrics.Watcher(sessions, RULES)
    watcher.start()
    for _ in range(100):
        if told("labfleet_queue_counted_seconds"):
            break
        watcher.join(0.05)
    watcher.stop()
    watcher.join(5)
    assert not watcher.is_alive()
    assert told("labfleet_queue_counted_seconds")
