from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event, func, select, update
from sqlalchemy.orm import Session, sessionmaker

from labfleet.config import OrderSection
from labfleet.db.models import Group, Reservation, Task, User
from labfleet.dispatch.release import release
from labfleet.errors import NotFound
from labfleet.jobs import explain
from labfleet.jobs.explain import Reason
from labfleet.jobs.needs import Needs

Sessions = sessionmaker[Session]
Make = Callable[..., list[uuid.UUID]]
Why = Callable[..., Reason]
LONG_AGO = func.clock_timestamp() - timedelta(seconds=300)


@pytest.fixture
def why(sessions: Sessions) -> Why:
    """The reason of one task."""

    def why(task_id: uuid.UUID, **rules: Any) -> Reason:
        with sessions() as session:
            task = session.get_one(Task, task_id)
            owner = session.get_one(User, task.owner_id)
            return explain.reasons(session, owner, [task], OrderSection(**rules))[task_id]

    return why


@pytest.fixture
def place(sessions: Sessions) -> Callable[[], int]:
    def place() -> int:
        with sessions.begin() as session:
            return release(session, OrderSection())

    return place


def change(sessions: Sessions, row: type[Any], values: dict[str, Any], *where: Any) -> None:
    with sessions.begin() as session:
        session.execute(update(row).where(*where).values(values))


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"held": True}, "held"),
        ({"ready": False}, "waits_for_earlier_tasks"),
        ({"placed_on": "w1"}, "placed"),
        ({"not_before": func.clock_timestamp() + timedelta(hours=1)}, "not_before"),
        ({"not_before": func.clock_timestamp()}, "next"),
    ],
)
def test_reasons_that_lie_in_the_task(
    sessions: Sessions, user: User, make_worker: Any, make_tasks: Make, why: Why, values: Any, code: str
) -> None:
    make_worker()
    [task_id] = make_tasks(user)
    change(sessions, Task, values)
    assert why(task_id).code == code


@pytest.mark.parametrize(
    ("needs", "missing", "said"),
    [
        ({"key": "julia"}, "key", "No worker serves the key 'julia'; served are: python."),
        ({"tags": ["gpu"]}, "tags", "No worker that serves 'python' has the tags gpu."),
        (
            {"tags": ["images"]},
            "tags",
            "No worker that serves 'python' runs container images. Ask your admin (worker_images).",
        ),
        ({"cores": 9}, "cores", "It needs 9 cores; the largest worker that serves 'python' has 8."),
        (
            {"memory_bytes": 2**40},
            "memory",
            "It needs 1024.0 GiB of memory; the largest worker that serves 'python' has 64.0 GiB.",
        ),
        (
            {"cores": 8, "memory_bytes": 2**35},
            "together",
            "No one worker that serves 'python' has both 8 cores and 32.0 GiB of memory.",
        ),
    ],
)
def test_what_no_worker_has_is_named(
    user: User, make_worker: Any, make_tasks: Make, why: Why, needs: Any, missing: str, said: str
) -> None:
    make_worker("w1", cores=8)
    make_worker("w2", memory_total=2**36)
    [task_id] = make_tasks(user, **needs)
    reason = why(task_id)
    assert (reason.code, reason.detail["missing"], reason.message) == ("no_such_worker", missing, said)


def test_an_empty_fleet_is_told(user: User, make_tasks: Make, why: Why) -> None:
    [task_id] = make_tasks(user)
    assert why(task_id).message == "No worker serves the key 'python'; served are: none."


@pytest.mark.parametrize(
    ("values", "code", "said"),
    [
        ({"last_seen": LONG_AGO}, "workers_away", "w1 (silent for 3"),
        ({"stopping": True}, "workers_away", "w1 (is stopping)"),
        ({"draining": True}, "draining", "w1"),
        ({"load1": 9}, "workers_loaded", "w1 has 4.5 per core; the limit is 4."),
    ],
)
def test_reasons_that_lie_in_the_workers(
    sessions: Sessions,
    user: User,
    make_worker: Any,
    make_tasks: Make,
    why: Why,
    values: Any,
    code: str,
    said: str,
) -> None:
    make_worker("w1", **values)
    make_worker("other", keys=["r"])
    [task_id] = make_tasks(user)
    reason = why(task_id)
    assert reason.code == code
    assert said in reason.message


def test_a_full_fleet_and_a_place_in_the_line(
    user: User,
    make_user: Callable[..., User],
    make_worker: Any,
    make_tasks: Make,
    why: Why,
    place: Callable[[], int],
) -> None:
    make_worker("w1", slots=2)
    running = make_tasks(user, 2)
    assert why(running[1]).code == "next"
    place()
    assert why(running[1]).code == "placed"
    first, *others = make_tasks(make_user("bob"), 4)
    make_tasks(make_user("eve"), 9, key="r")  # waits for other workers, so it is not before anybody here
    assert why(first).code == "workers_full"
    assert why(first).detail == {"slots": 2, "workers": ["w1"]}
    last = why(others[-1])
    assert (last.code, last.message, last.detail["place"]) == ("behind_others", "3 tasks come before it.", 4)
    assert why(others[0]).message == "1 task comes before it."


def test_beyond_what_is_read_there_are_more_than_so_many(
    user: User, make_worker: Any, make_tasks: Make, why: Why, place: Callable[[], int]
) -> None:
    make_worker("w1", slots=1)
    tasks = make_tasks(user, 50)
    place()
    assert why(tasks[40], explain_depth=10).message == "More than 10 tasks come before it."
    assert why(tasks[40]).detail == {"place": 40, "before": 39}


def test_free_slots_that_are_kept_for_others(
    sessions: Sessions, user: User, make_worker: Any, make_tasks: Make, why: Why
) -> None:
    make_worker("w1", keys=["python", "r"], slots=1)
    with sessions.begin() as session:
        session.add(Reservation(key="r", slots=1))
    [task_id] = make_tasks(user)
    reason = why(task_id)
    assert (reason.code, reason.detail) == ("reserved", {"reserved": {"r": 1}})


def test_cores_that_are_not_free_yet(
    user: User, make_user: Callable[..., User], make_worker: Any, make_tasks: Make, why: Why, place: Any
) -> None:
    make_worker("w1", slots=2, cores=2)
    make_tasks(user, 1)
    place()
    [wide] = make_tasks(make_user("bob"), 1, cores=2)
    assert (why(wide).code, why(wide).message) == (
        "workers_full",
        "No worker that can run it has 2 cores free now; it is first in line.",
    )
    [narrow] = make_tasks(make_user("eve"), 1)
    assert why(narrow).code == "behind_others"


@pytest.mark.parametrize(
    ("limits", "code", "figures"),
    [
        ({"max_running": 2}, "quota_running", {"running": 2, "cores": 2, "quota": 2}),
        ({"max_cores": 2}, "quota_cores", {"running": 2, "cores": 2, "quota": 2}),
    ],
)
@pytest.mark.parametrize("kind", ["user", "group"])
def test_a_quota_that_is_used_up(
    sessions: Sessions,
    user: User,
    make_user: Callable[..., User],
    make_worker: Any,
    make_tasks: Make,
    why: Why,
    place: Callable[[], int],
    kind: str,
    limits: Any,
    code: str,
    figures: Any,
) -> None:
    make_worker("w1", slots=8, cores=8)
    if kind == "group":
        with sessions.begin() as session:
            session.add(Group(name="lab", **limits))
        member = make_user("bob")
        change(sessions, User, {"group_name": "lab"})
        make_tasks(member, 1)
        tasks = make_tasks(user, 2)
    else:
        change(sessions, User, limits, User.id == user.id)
        tasks = make_tasks(user, 3)
    place()
    reason = why(tasks[-1])
    name = "lab" if kind == "group" else user.name
    assert (reason.code, reason.detail) == (code, {kind: name, **figures})
    assert f"The {kind} {name} has" in reason.message


def test_a_disabled_account(
    sessions: Sessions, user: User, make_worker: Any, make_tasks: Make, why: Why
) -> None:
    make_worker()
    [task_id] = make_tasks(user)
    change(sessions, User, {"disabled_at": func.now()})
    assert why(task_id).code == "owner_disabled"


def test_a_page_of_tasks_costs_few_statements_and_none_without_a_queued_one(
    sessions: Sessions, user: User, make_worker: Any, make_tasks: Make
) -> None:
    make_worker()
    make_tasks(user, 100)
    statements: list[str] = []
    with sessions() as session:
        tasks = session.scalars(select(Task)).all()
        engine = session.get_bind()

        def count(*arguments: Any) -> None:
            statements.append(arguments[2])

        event.listen(engine, "before_cursor_execute", count)
        found = explain.reasons(session, user, tasks, OrderSection())
        assert explain.reasons(session, user, [Task(state="running")], OrderSection()) == {}
        event.remove(engine, "before_cursor_execute", count)
    assert len(found) == 100
    assert len(statements) <= 8


def test_a_job_s_waiting_tasks_are_told_lane_by_lane(
    sessions: Sessions, user: User, make_worker: Any, make_tasks: Make, place: Callable[[], int]
) -> None:
    make_worker("w1", slots=1)
    ids = make_tasks(user, 5)
    change(sessions, Task, {"ready": False}, Task.id == ids[4])
    place()
    with sessions() as session:
        job = session.get_one(Task, ids[0]).job_id
        waiting = explain.waiting_of_job(session, user, job, OrderSection())
    assert [(item.count, item.reason.code) for item in waiting] == [
        (1, "placed"),
        (3, "workers_full"),
        (1, "waits_for_earlier_tasks"),
    ]
    assert waiting[0].needs == Needs("python", 1, 2**20, 600)


def test_a_job_of_somebody_else_is_not_found(
    sessions: Sessions, user: User, make_user: Callable[..., User], make_tasks: Make
) -> None:
    [task_id] = make_tasks(user)
    with sessions() as session:
        job = session.get_one(Task, task_id).job_id
        with pytest.raises(NotFound):
            explain.waiting_of_job(session, make_user("bob"), job, OrderSection())
        assert explain.waiting_of_job(session, make_user("root", is_admin=True), job, OrderSection())


def test_the_order_as_it_stands(
    sessions: Sessions, user: User, admin: User, make_user: Callable[..., User], make_tasks: Make
) -> None:
    bob = make_user("bob")
    mine, his, urgent = make_tasks(user, 3), make_tasks(bob, 2), make_tasks(bob, 1, priority=3)
    with sessions() as session:
        every = explain.queue(session, admin, 4)
        own = explain.queue(session, user, 10)
    assert [(item.place, item.task_id, item.owner) for item in every] == [
        (1, urgent[0], "bob"),
        (2, mine[0], "ada"),
        (3, mine[1], "ada"),
        (4, his[0], "bob"),
    ]
    assert [(item.place, item.task_id) for item in own] == [(2, mine[0]), (3, mine[1]), (5, mine[2])]


def test_which_workers_could_run_something(sessions: Sessions, make_worker: Any) -> None:
    make_worker("w1")
    make_worker("w2", tags=["gpu"], cores=8, last_seen=LONG_AGO)
    with sessions() as session:
        found = {
            tuple(worker.name for worker in explain.able(session, needs))
            for needs in (
                Needs("python", 1, 1, 1),
                Needs("python", 4, 1, 1),
                Needs("python", 1, 1, 1, ("gpu",)),
            )
        }
        assert found == {("w1", "w2"), ("w2",)}
        assert explain.able(session, Needs("r", 1, 1, 1)) == []


def test_the_reasons_are_what_the_dispatcher_does(
    sessions: Sessions,
    user: User,
    make_user: Callable[..., User],
    make_worker: Any,
    make_tasks: Make,
    place: Any,
) -> None:
    make_worker("w1", slots=3, cores=3)
    make_worker("w2", slots=2, cores=2, tags=["gpu"])
    bob = make_user("bob")
    make_tasks(user, 4)
    make_tasks(bob, 2, tags=["gpu"])
    make_tasks(bob, 2, cores=3)
    make_tasks(bob, 2, key="r")
    with sessions() as session:
        tasks = session.scalars(select(Task)).all()
        told = explain.reasons(session, user, tasks, OrderSection())
    while place():
        pass
    with sessions() as session:
        placed = set(session.scalars(select(Task.id).where(Task.placed_on.is_not(None))))
    assert placed == {task_id for task_id, reason in told.items() if reason.code == "next"}
    assert len(placed) == 5
