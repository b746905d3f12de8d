from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, func, select, update
from sqlalchemy.orm import Session, sessionmaker

from labfleet.config import OrderSection
from labfleet.db.models import Task, User, WorkerRow
from labfleet.dispatch.listener import Listener
from labfleet.errors import Conflict, Invalid, NotFound
from labfleet.jobs import fleet

Sessions = sessionmaker[Session]
RULES = OrderSection()


@pytest.fixture
def woken(engine: Engine) -> Any:
    """Whether the dispatcher was woken since the last question."""
    listener = Listener(engine.url, 5)
    yield lambda: listener.wait(0.2)
    listener.close()


def test_a_worker_is_drained_and_used_again(
    sessions: Sessions, make_worker: Callable[..., str], woken: Callable[[], bool]
) -> None:
    make_worker("w1")
    for draining in (True, False):
        with sessions.begin() as session:
            fleet.drain(session, "w1", draining=draining)
        assert woken()
        with sessions() as session:
            [(row, worker)] = fleet.described(session, RULES)
            assert row.draining is draining
            assert (worker.draining, worker.usable) == (draining, not draining)
    with sessions() as session, pytest.raises(NotFound, match="There is no worker 'w2'"):
        fleet.drain(session, "w2", draining=True)


def test_only_a_worker_that_is_silent_is_forgotten(sessions: Sessions, make_worker: Any) -> None:
    make_worker("w1")
    with sessions() as session, pytest.raises(Conflict, match="reported 0 s ago"):
        fleet.remove(session, "w1", RULES)
    with sessions.begin() as session:
        session.execute(update(WorkerRow).values(last_seen=func.clock_timestamp() - timedelta(seconds=40)))
        fleet.remove(session, "w1", RULES)
    with sessions() as session:
        assert session.scalars(select(WorkerRow)).all() == []
        with pytest.raises(NotFound):
            fleet.remove(session, "w1", RULES)


def test_what_is_placed_on_a_worker_is_counted(
    sessions: Sessions, user: User, make_worker: Any, make_tasks: Any
) -> None:
    make_worker("w1", tags=["gpu"], load1=1.5)
    make_worker("w2", last_seen=func.clock_timestamp() - timedelta(seconds=31))
    queued, young, old, ended = make_tasks(user, 4, cores=2)
    with sessions.begin() as session:
        session.execute(update(Task).values(placed_on="w1"))
        for task_id, state, age in ((young, "running", 5), (old, "running", 90), (ended, "failed", 5)):
            started = func.clock_timestamp() - timedelta(seconds=age)
            session.execute(update(Task).where(Task.id == task_id).values(state=state, started_at=started))
    with sessions() as session:
        first, second = fleet.load(session, RULES).workers
    assert (first.name, first.taken, first.taken_cores, first.fresh_cores) == ("w1", 3, 6, 4)
    assert (first.tags, first.load, first.memory_bytes, first.usable) == ({"gpu"}, 1.5, 4 * 2**30, True)
    assert (second.away, second.usable, second.taken) == (True, False, 0)
    assert queued


def test_reservations_come_and_go(sessions: Sessions, woken: Callable[[], bool]) -> None:
    with sessions.begin() as session:
        fleet.reserve(session, "r", 2)
        fleet.reserve(session, "python.gpu", 1)
    with sessions.begin() as session:
        fleet.reserve(session, "r", 3)
    assert woken()
    with sessions.begin() as session:
        assert [(row.key, row.slots) for row in fleet.reservations(session)] == [("python.gpu", 1), ("r", 3)]
        assert fleet.get_reservation(session, "r").slots == 3
        fleet.unreserve(session, "r")
    with sessions() as session, pytest.raises(NotFound, match="Nothing is reserved for the key 'r'"):
        fleet.unreserve(session, "r")


@pytest.mark.parametrize(("key", "slots"), [("r", 0), ("r", -1), ("worker.w1", 1), ("R", 1), ("", 1)])
def test_a_reservation_that_can_t_be_is_refused(sessions: Sessions, key: str, slots: int) -> None:
    with sessions() as session, pytest.raises(Invalid):
        fleet.reserve(session, key, slots)
