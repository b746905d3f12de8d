from __future__ import annotations

import threading
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session, sessionmaker

from labfleet.config import OrderSection
from labfleet.db.models import Group, OutboxRow, Reservation, Task, User, WorkerRow
from labfleet.dispatch.recent import Recent
from labfleet.dispatch.release import LOCK, release
from labfleet.jobs import transition

Sessions = sessionmaker[Session]
Make = Callable[..., list[uuid.UUID]]
Turn = Callable[..., list[uuid.UUID]]


@pytest.fixture
def turn(sessions: Sessions) -> Turn:
    """Place until nothing more can be: the tasks in the order in which they were placed."""

    def turn(**rules: Any) -> list[uuid.UUID]:
        with sessions() as session:
            before = session.scalar(select(func.coalesce(func.max(OutboxRow.id), 0)))
        placed = 1
        while placed:
            with sessions.begin() as session:
                placed = release(session, OrderSection(**rules))
        with sessions() as session:
            rows = select(OutboxRow.task_id).where(OutboxRow.id > before).order_by(OutboxRow.id)
            return list(session.scalars(rows))

    return turn


@pytest.fixture
def end(sessions: Sessions) -> Callable[[Sequence[uuid.UUID]], None]:
    """Let tasks succeed, as far as the order is concerned."""

    def end(ids: Sequence[uuid.UUID]) -> None:
        with sessions.begin() as session:
            session.execute(update(Task).where(Task.id.in_(ids)).values(state="success"))

    return end


@pytest.fixture
def users(make_user: Callable[..., User]) -> Callable[[int], list[User]]:
    return lambda count: [make_user(f"user{number}") for number in range(count)]


def change(sessions: Sessions, row: type[Any], name: str, **values: Any) -> None:
    with sessions.begin() as session:
        session.execute(update(row).where(row.name == name).values(values))


def owners(sessions: Sessions, ids: Sequence[uuid.UUID]) -> list[str]:
    with sessions() as session:
        names = dict(session.execute(select(Task.id, User.name).join(User, User.id == Task.owner_id)).all())
    return [names[task_id] for task_id in ids]


def workers(sessions: Sessions, ids: Sequence[uuid.UUID]) -> list[str | None]:
    with sessions() as session:
        found = dict(session.execute(select(Task.id, Task.placed_on)).all())
    return [found[task_id] for task_id in ids]


def test_a_task_is_placed_and_its_message_lies_ready(
    sessions: Sessions, user: User, make_worker: Any, make_tasks: Make, turn: Turn
) -> None:
    make_worker("w1", slots=2)
    first, second, third = make_tasks(user, 3)
    assert turn() == [first, second]
    with sessions() as session:
        rows = list(session.execute(select(OutboxRow.kind, OutboxRow.task_id, OutboxRow.attempt)))
    assert rows == [("run", first, 1), ("run", second, 1)]
    assert workers(sessions, [first, second, third]) == ["w1", "w1", None]
    assert turn() == []


def test_without_a_free_slot_nothing_but_the_fleet_is_looked_at(
    sessions: Sessions, user: User, make_worker: Any, make_tasks: Make
) -> None:
    make_worker("w1", slots=1)
    make_tasks(user, 5)
    statements: list[str] = []

    def count(*arguments: Any) -> None:
        statements.append(arguments[2])

    with sessions.begin() as session:
        assert release(session, OrderSection()) == 1
        engine = session.get_bind()
        from sqlalchemy import event

        event.listen(engine, "before_cursor_execute", count)
        assert release(session, OrderSection()) == 0
        event.remove(engine, "before_cursor_execute", count)
    assert len(statements) == 3
    assert not any("lane" in statement for statement in statements)


class TestAhead:
    @pytest.fixture
    def recent(self) -> Recent:
        return Recent(60)

    @pytest.fixture
    def run(self, sessions: Sessions) -> Callable[..., None]:
        def run(ids: Sequence[uuid.UUID], ended: timedelta = timedelta(0)) -> None:
            at = func.clock_timestamp() - ended
            with sessions.begin() as session:
                session.execute(
                    update(Task)
                    .where(Task.id.in_(ids))
                    .values(state="success", started_at=at, finished_at=at)
                )

        return run

    @staticmethod
    def turn(sessions: Sessions, recent: Recent | None, ahead_seconds: float = 10) -> list[uuid.UUID]:
        with sessions.begin() as session:
            before = session.scalar(select(func.coalesce(func.max(OutboxRow.id), 0)))
            release(session, OrderSection(ahead_seconds=ahead_seconds), recent)
            rows = select(OutboxRow.task_id).where(OutboxRow.id > before).order_by(OutboxRow.id)
            return list(session.scalars(rows))

    def test_short_tasks_follow_short_ones(
        self, sessions: Sessions, user: User, make_worker: Any, make_tasks: Make, recent: Recent, run: Any
    ) -> None:
        make_worker("w1", slots=2)
        tasks = make_tasks(user, 9, wall_seconds=60)
        assert self.turn(sessions, recent) == tasks[:2]
        assert self.turn(sessions, recent) == []
        run(tasks[:2])
        assert self.turn(sessions, None) == tasks[2:4]  # who remembers nothing places nothing ahead
        assert self.turn(sessions, recent) == tasks[4:6]
        assert self.turn(sessions, recent) == []

    def test_what_ended_long_ago_tells_nothing(
        self, sessions: Sessions, user: User, make_worker: Any, make_tasks: Make, recent: Recent, run: Any
    ) -> None:
        make_worker("w1", slots=1)
        tasks = make_tasks(user, 4, wall_seconds=60)
        self.turn(sessions, recent)
        run(tasks[:1], timedelta(seconds=11))
        assert self.turn(sessions, recent) == tasks[1:2]

    def test_a_long_task_whose_turn_it_is_gets_the_next_slot(
        self,
        sessions: Sessions,
        users: Callable[[int], list[User]],
        make_worker: Any,
        make_tasks: Make,
        recent: Recent,
        run: Any,
    ) -> None:
        make_worker("w1", slots=1)
        one, two = users(2)
        short = make_tasks(one, 9, wall_seconds=60)
        self.turn(sessions, recent)
        run(short[:1])
        assert self.turn(sessions, recent) == short[1:3]
        run(short[1:2])
        (long,) = make_tasks(two, 1, wall_seconds=600)
        assert self.turn(sessions, recent) == []
        run(short[2:3])
        assert self.turn(sessions, recent) == [long]
        assert self.turn(sessions, recent) == []


def test_ten_thousand_tasks_of_one_delay_nobody_s_first(
    sessions: Sessions,
    user: User,
    users: Callable[[int], list[User]],
    make_worker: Any,
    make_tasks: Make,
    turn: Turn,
    end: Any,
) -> None:
    make_worker("w1", slots=4, cores=4)
    make_tasks(user, 10_000)
    running = turn()
    others = {task_id for other in users(3) for task_id in make_tasks(other, 1)}
    end(running[:1])
    assert set(turn()) < others
    end(running[1:3])
    turn()
    assert all(workers(sessions, list(others)))


def test_fair_share_counts_what_runs_and_what_is_placed_by_weight(
    sessions: Sessions,
    users: Callable[[int], list[User]],
    make_worker: Any,
    make_tasks: Make,
    turn: Turn,
    end: Any,
) -> None:
    make_worker("w1", slots=12, cores=12)
    one, two, three = users(3)
    change(sessions, User, three.name, weight=2)
    for owner in (one, two, three):
        make_tasks(owner, 100)
    placed = turn()
    assert Counter(owners(sessions, placed)) == {"user0": 3, "user1": 3, "user2": 6}
    # Who has nothing on the workers any more comes first.
    end(
        [task_id for task_id, owner in zip(placed, owners(sessions, placed), strict=True) if owner == "user1"]
    )
    assert Counter(owners(sessions, turn())) == {"user1": 3}


@pytest.mark.parametrize("batch", [1, 2, 5, 50])
def test_the_order_does_not_depend_on_how_much_is_decided_at_a_time(
    sessions: Sessions,
    users: Callable[[int], list[User]],
    make_worker: Any,
    make_tasks: Make,
    turn: Turn,
    batch: int,
) -> None:
    make_worker("w1", slots=10, cores=10)
    one, two, three = users(3)
    change(sessions, User, one.name, weight=5)
    make_tasks(one, 20)
    make_tasks(two, 20, wall_seconds=700)
    make_tasks(two, 20)
    make_tasks(three, 1, priority=1)
    placed = owners(sessions, turn(release_batch=batch))
    # The shares of user0 grow by a fifth, those of the others by one; all firsts are equal.
    assert Counter(placed) == {"user0": 7, "user1": 2, "user2": 1}
    assert placed[0] == "user2"
    assert "user1" in placed[1:3]


def test_the_higher_priority_goes_first_then_the_share_then_the_age(
    sessions: Sessions, users: Callable[[int], list[User]], make_worker: Any, make_tasks: Make, turn: Turn
) -> None:
    make_worker("w1", slots=9, cores=9)
    one, two = users(2)
    old = make_tasks(one, 2)
    high = make_tasks(one, 2, priority=5, wall_seconds=700)
    other = make_tasks(two, 2)
    low = make_tasks(two, 1, priority=-1)
    # user0 has two tasks by then: his third has a larger share than the first two of user1.
    assert turn() == [*high, *other[:2], old[0], old[1], *low]


def test_everybody_s_first_comes_soon_though_others_wait_for_longer(
    sessions: Sessions,
    users: Callable[[int], list[User]],
    make_worker: Any,
    make_tasks: Make,
    turn: Turn,
    end: Any,
) -> None:
    """More users with older tasks than there are slots: whenever one ends, several have nothing that runs."""
    make_worker("w1", slots=2)
    *many, late = users(6)
    change(sessions, User, many[0].name, weight=100)
    for owner in many:
        make_tasks(owner, 20)
    running = turn()
    for _ in range(3):
        end(running)
        running = turn()
    [first] = make_tasks(late, 1)
    end(running)
    assert first in turn()


def test_what_is_held_not_ready_or_not_yet_due_is_not_placed(
    sessions: Sessions, user: User, make_worker: Any, make_tasks: Make, turn: Turn
) -> None:
    make_worker("w1", slots=9, cores=9)
    soon = func.clock_timestamp() + timedelta(hours=1)
    make_tasks(user, 2, held=True)
    make_tasks(user, 2, ready=False)
    later, past = make_tasks(user, 1), make_tasks(user, 1)
    with sessions.begin() as session:
        session.execute(update(Task).where(Task.id.in_(later)).values(not_before=soon))
        session.execute(update(Task).where(Task.id.in_(past)).values(not_before=func.now()))
    assert turn() == past


def test_a_quota_bounds_what_is_on_the_workers_not_what_waits(
    sessions: Sessions,
    users: Callable[[int], list[User]],
    make_worker: Any,
    make_tasks: Make,
    turn: Turn,
    end: Any,
) -> None:
    make_worker("w1", slots=20, cores=20)
    one, two = users(2)
    change(sessions, User, one.name, max_running=3)
    change(sessions, User, two.name, max_cores=5)
    make_tasks(one, 10)
    make_tasks(two, 10, cores=2)
    placed = turn()
    assert Counter(owners(sessions, placed)) == {"user0": 3, "user1": 2}
    end(placed)
    assert Counter(owners(sessions, turn())) == {"user0": 3, "user1": 2}


def test_a_group_s_quota_is_shared_fairly_by_its_members(
    sessions: Sessions, users: Callable[[int], list[User]], make_worker: Any, make_tasks: Make, turn: Turn
) -> None:
    make_worker("w1", slots=20, cores=20)
    with sessions.begin() as session:
        session.add(Group(name="lab", max_running=4))
    one, two, three = users(3)
    for member in (one, two):
        change(sessions, User, member.name, group_name="lab")
    for owner in (one, two, three):
        make_tasks(owner, 8)
    assert Counter(owners(sessions, turn())) == {"user0": 2, "user1": 2, "user2": 8}


def test_what_no_quota_allows_stops_nothing_else(
    sessions: Sessions, user: User, make_worker: Any, make_tasks: Make, turn: Turn
) -> None:
    make_worker("w1", slots=8, cores=8)
    change(sessions, User, user.name, max_cores=2)
    make_tasks(user, 100, cores=4)
    narrow = make_tasks(user, 1)
    assert turn() == narrow


def test_tasks_of_a_disabled_user_wait(
    sessions: Sessions, user: User, make_worker: Any, make_tasks: Make, turn: Turn
) -> None:
    make_worker("w1")
    make_tasks(user, 1)
    change(sessions, User, user.name, disabled_at=func.now())
    assert turn() == []
    change(sessions, User, user.name, disabled_at=None)
    assert len(turn()) == 1


def test_a_reservation_keeps_the_last_slots(
    sessions: Sessions, user: User, make_worker: Any, make_tasks: Make, turn: Turn
) -> None:
    make_worker("w1", slots=3, cores=3, keys=["python", "r"])
    with sessions.begin() as session:
        session.add(Reservation(key="r", slots=1))
    make_tasks(user, 5)
    assert len(turn()) == 2
    urgent = make_tasks(user, 2, key="r")
    assert turn() == urgent[:1]


def test_tags_and_sizes_choose_the_worker_and_what_nobody_can_run_stops_nothing(
    sessions: Sessions, user: User, make_worker: Any, make_tasks: Make, turn: Turn
) -> None:
    make_worker("w1", slots=4, cores=4)
    make_worker("w2", slots=4, cores=8, tags=["gpu"], memory_total=64 * 2**30)
    make_tasks(user, 20, key="julia", priority=9)
    make_tasks(user, 20, tags=["fpga"], priority=9)
    gpu = make_tasks(user, 1, tags=["gpu"])
    wide = make_tasks(user, 1, cores=6)
    large = make_tasks(user, 1, memory_bytes=32 * 2**30)
    plain = make_tasks(user, 2)
    placed = turn()
    assert set(placed) == {*gpu, *wide, *large, *plain}
    assert workers(sessions, [*gpu, *wide, *large]) == ["w2", "w2", "w2"]


def test_a_wide_task_is_not_overtaken_for_ever(
    sessions: Sessions,
    user: User,
    users: Callable[[int], list[User]],
    make_worker: Any,
    make_tasks: Make,
    turn: Turn,
    end: Any,
) -> None:
    make_worker("w1", slots=4, cores=4)
    make_tasks(user, 100)
    running = turn()
    wide = make_tasks(users(1)[0], 1, cores=4)
    for task_id in running:
        assert turn() == []
        end([task_id])
    assert turn() == wide


@pytest.mark.parametrize(
    "values",
    [
        {"draining": True},
        {"stopping": True},
        {"last_seen": func.clock_timestamp() - timedelta(seconds=31)},
        {"load1": 8},
    ],
    ids=["draining", "stopping", "dead", "loaded"],
)
def test_a_worker_that_should_get_nothing_gets_nothing(
    sessions: Sessions,
    user: User,
    make_worker: Any,
    make_tasks: Make,
    turn: Turn,
    values: dict[str, Any],
) -> None:
    make_worker("w1")
    make_tasks(user, 2)
    change(sessions, WorkerRow, "w1", **values)
    assert turn() == []
    make_worker("w2")
    assert len(turn()) == 2
    with sessions() as session:
        assert set(session.scalars(select(Task.placed_on))) == {"w2"}


def test_two_dispatchers_at_once_place_everything_once_and_overfill_nothing(
    sessions: Sessions, user: User, make_worker: Any, make_tasks: Make
) -> None:
    for name in ("w1", "w2", "w3"):
        make_worker(name, slots=7, cores=7)
    make_tasks(user, 100)
    together = threading.Barrier(2, timeout=10)

    def work(_: int) -> int:
        total = misses = 0
        together.wait()
        while misses < 200:  # most of them while the other one decides
            with sessions.begin() as session:
                placed = release(session, OrderSection(release_batch=2))
            total += placed
            misses += not placed
        return total

    with ThreadPoolExecutor(2) as pool:
        shares = list(pool.map(work, range(2)))
    assert sum(shares) == 21
    with sessions() as session:
        placed = dict(
            session.execute(
                select(Task.placed_on, func.count())
                .where(Task.placed_on.is_not(None))
                .group_by(Task.placed_on)
            ).all()
        )
        assert placed == {"w1": 7, "w2": 7, "w3": 7}
        assert session.scalar(select(func.count()).select_from(OutboxRow)) == 21


def test_while_one_decides_the_other_leaves_it_to_it(
    sessions: Sessions, user: User, make_worker: Any, make_tasks: Make
) -> None:
    make_worker("w1")
    make_tasks(user, 1)
    with sessions.begin() as first, sessions.begin() as second:
        first.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        assert release(second, OrderSection()) == 0
    with sessions.begin() as session:
        assert release(session, OrderSection()) == 1


def test_a_task_that_somebody_holds_is_left_to_them(
    sessions: Sessions, user: User, make_worker: Any, make_tasks: Make, turn: Turn
) -> None:
    make_worker("w1")
    held, other = make_tasks(user, 1)[0], make_tasks(user, 1)[0]
    with sessions.begin() as holder:
        transition.lock_task(holder, held)
        assert turn() == [other]
    assert turn() == [held]
