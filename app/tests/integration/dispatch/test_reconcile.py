from __future__ import annotations

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session, sessionmaker

from labfleet.config import DispatcherSection, OrderSection
from labfleet.db.models import Attempt, OutboxRow, Task, User, WorkerRow
from labfleet.dispatch import reconcile as rounds
from labfleet.errors import AttemptSuperseded
from labfleet.jobs import attempts, finishing, service, transition, verbs
from labfleet.jobs.finishing import Ending
from labfleet.jobs.states import Outcome

Sessions = sessionmaker[Session]
Submit = Callable[..., uuid.UUID]
Read = Callable[[uuid.UUID], Task]
Events = Callable[[uuid.UUID], list[str]]
Reconcile = Callable[[], tuple[int, int]]
RULES = OrderSection()
SECTION = DispatcherSection(
    runner_urls=["http://127.0.0.1:9"], unclaimed_seconds=20, unclaimed_max_seconds=60
)


def age(sessions: Sessions, column: str, seconds: float) -> None:
    values = {column: func.clock_timestamp() - timedelta(seconds=seconds)}
    with sessions.begin() as session:
        session.execute(update(Task).where(getattr(Task, column).is_not(None)).values(values))


def claim(sessions: Sessions, task_id: uuid.UUID, number: int) -> None:
    with sessions.begin() as session:
        attempts.claim(session, task_id, number, f"w{number}", f"c{number}", lease_seconds=60)


@pytest.fixture(autouse=True)
def _fleet(make_worker: Callable[..., str]) -> None:
    make_worker("w1", slots=200, cores=200, free_slots=0)


@pytest.fixture
def reconcile(sessions: Sessions) -> Callable[[], tuple[int, int]]:
    return lambda: rounds.reconcile(sessions, SECTION, RULES)


def change_worker(sessions: Sessions, which: str = "w1", **values: Any) -> None:
    with sessions.begin() as session:
        session.execute(update(WorkerRow).where(WorkerRow.name == which).values(values))


def test_a_lease_that_holds_is_left_alone(
    sessions: Sessions, submit: Submit, task: Read, reconcile: Reconcile
) -> None:
    task_id = submit()
    claim(sessions, task_id, 1)
    assert reconcile() == (0, 0)
    assert task(task_id).state == "running"


def test_a_lapsed_lease_makes_a_new_attempt_and_fences_the_old(
    sessions: Sessions, submit: Submit, task: Read, reconcile: Reconcile
) -> None:
    task_id = submit()
    claim(sessions, task_id, 1)
    age(sessions, "lease_until", 1)
    assert reconcile() == (1, 0)
    row = task(task_id)
    assert (row.state, row.attempt, row.worker, row.lease_until) == ("queued", 2, None, None)
    claim(sessions, task_id, 2)
    with sessions() as session:
        with pytest.raises(AttemptSuperseded):
            finishing.finish(session, task_id, 1, Ending(Outcome.SUCCESS))
        outcomes = list(session.execute(select(Attempt.number, Attempt.outcome).order_by(Attempt.number)))
    assert outcomes == [(1, "lapsed"), (2, None)]
    assert task(task_id).worker == "w2"


def test_after_the_last_attempt_it_is_a_failure_of_the_system_with_its_reason(
    sessions: Sessions, user: User, submit: Submit, task: Read, reconcile: Reconcile, events: Events
) -> None:
    task_id = submit(max_attempts=2)
    for number in (1, 2):
        claim(sessions, task_id, number)
        age(sessions, "lease_until", 1)
        reconcile()
    row = task(task_id)
    assert (row.state, row.failure, row.attempt) == ("failed", "system", 2)
    assert "Given up after 2 attempts" in row.message
    assert "w2" in row.message
    with sessions() as session:
        assert service.get_job_row(session, user, row.job_id).state == "failed"
    assert events(task_id)[-3:] == ["lease_lapsed", "claimed", "failed"]


def test_a_lapsed_task_that_was_to_be_cancelled_is_cancelled(
    sessions: Sessions, user: User, submit: Submit, task: Read, reconcile: Reconcile
) -> None:
    task_id = submit()
    claim(sessions, task_id, 1)
    with sessions.begin() as session:
        verbs.cancel(session, user, task(task_id).job_id)
    age(sessions, "lease_until", 1)
    assert reconcile() == (1, 0)
    assert task(task_id).state == "cancelled"


def test_a_full_worker_is_given_ever_more_time_but_a_minute_at_most(
    sessions: Sessions,
    runner: Any,
    dispatch: Callable[[], int],
    submit: Submit,
    task: Read,
    events: Events,
    reconcile: Reconcile,
) -> None:
    task_id = submit()
    dispatch()
    for resends, (young, old) in enumerate([(15, 25), (35, 45), (55, 65), (55, 65)]):
        age(sessions, "dispatched_at", young)
        assert reconcile() == (0, 0)
        age(sessions, "dispatched_at", old)
        assert reconcile() == (0, 1)
        assert reconcile() == (0, 0)
        assert (task(task_id).placed_on, task(task_id).resends) == (None, resends + 1)
        assert dispatch() == 1
    assert [message["attempt"] for _, message in runner.got] == [1] * 5
    assert events(task_id) == ["submitted", "dispatched", *["resent", "dispatched"] * 4]


def test_a_worker_with_free_slots_has_no_reason_to_wait(
    sessions: Sessions, dispatch: Callable[[], int], submit: Submit, reconcile: Reconcile
) -> None:
    submit()
    change_worker(sessions, free_slots=1)
    for _ in range(3):
        dispatch()
        age(sessions, "dispatched_at", 25)
        assert reconcile() == (0, 1)


def test_what_waits_at_a_full_worker_that_ends_nothing_is_soon_placed_anew(
    sessions: Sessions, dispatch: Callable[[], int], submit: Submit, task: Read, reconcile: Reconcile
) -> None:
    running, waiting = submit(), submit()
    dispatch()
    claim(sessions, running, 1)
    age(sessions, "dispatched_at", 3)
    assert reconcile() == (0, 0)  # it has 199 slots more
    change_worker(sessions, slots=1)
    age(sessions, "dispatched_at", 1)
    assert reconcile() == (0, 0)
    age(sessions, "dispatched_at", 3)
    assert reconcile() == (0, 1)
    assert (task(waiting).placed_on, task(running).state) == (None, "running")


@pytest.mark.parametrize(
    "values",
    [
        {"stopping": True},
        {"draining": True},
        {"last_seen": func.clock_timestamp() - timedelta(seconds=31)},
        {"name": "another"},
    ],
    ids=lambda values: next(iter(values)),
)
def test_what_a_worker_will_not_take_is_placed_elsewhere_at_once(
    sessions: Sessions,
    runner: Any,
    dispatch: Callable[[], int],
    submit: Submit,
    task: Read,
    events: Events,
    reconcile: Reconcile,
    make_worker: Callable[..., str],
    values: dict[str, Any],
) -> None:
    running, sent = submit(), submit()
    dispatch()
    with sessions.begin() as session:
        attempts.claim(session, running, 1, "w1", "c1", lease_seconds=60)
    runner.status = None  # the queue tier is away: the message stays in the outbox
    pending = submit()
    dispatch()
    change_worker(sessions, **values)
    assert reconcile() == (0, 2)
    make_worker("w2")
    if "name" in values:
        change_worker(sessions, "another", draining=True)
    dispatch()
    assert [task(sent).placed_on, task(pending).placed_on] == ["w2", "w2"]
    assert (task(running).state, task(running).placed_on) == ("running", "w1")
    with sessions() as session:
        rows = session.scalars(select(OutboxRow.task_id)).all()
    assert sorted(rows) == sorted([sent, pending])
    assert events(sent) == ["submitted", "dispatched", "resent"]
    assert reconcile() == (0, 0)


def test_what_the_outbox_still_holds_or_a_worker_has_is_left_alone(
    sessions: Sessions,
    runner: Any,
    dispatch: Callable[[], int],
    submit: Submit,
    events: Events,
    reconcile: Reconcile,
) -> None:
    taken = submit()
    dispatch()
    claim(sessions, taken, 1)
    age(sessions, "dispatched_at", 1000)
    runner.status = None
    waiting = submit()
    dispatch()
    assert reconcile() == (0, 0)
    assert events(waiting) == ["submitted"]


def test_a_message_that_is_just_being_sent_is_left_alone(
    sessions: Sessions,
    runner: Any,
    dispatch: Callable[[], int],
    submit: Submit,
    task: Read,
    reconcile: Reconcile,
) -> None:
    task_id = submit()
    done: list[tuple[int, int]] = []

    def meanwhile() -> None:
        change_worker(sessions, stopping=True)
        done.append(reconcile())

    runner.while_sending = meanwhile
    dispatch()
    assert done == [(0, 0)]
    assert task(task_id).dispatched_at is not None
    assert reconcile() == (0, 1)


def test_a_confirmation_that_nobody_could_write_down_is_made_good(
    sessions: Sessions, dispatch: Callable[[], int], submit: Submit, reconcile: Reconcile
) -> None:
    submit()
    dispatch()
    with sessions.begin() as session:
        session.execute(update(Task).values(dispatched_at=None))
    assert reconcile() == (0, 1)


def test_who_holds_a_job_is_not_waited_for(
    sessions: Sessions, dispatch: Callable[[], int], submit: Submit, task: Read, reconcile: Reconcile
) -> None:
    held, other = submit(), submit()
    dispatch()
    change_worker(sessions, stopping=True)
    with sessions.begin() as holder:
        transition.lock_task(holder, held)
        assert reconcile() == (0, 1)
    assert (task(held).placed_on, task(other).placed_on) == ("w1", None)
    assert reconcile() == (0, 1)


def test_reconcilers_at_once_do_everything_once(
    sessions: Sessions, dispatch: Callable[[], int], submit: Submit, reconcile: Reconcile
) -> None:
    lapsing, unclaimed = [submit() for _ in range(20)], [submit() for _ in range(20)]
    dispatch()
    for task_id in lapsing:
        claim(sessions, task_id, 1)
    age(sessions, "lease_until", 1)
    age(sessions, "dispatched_at", 100)
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: reconcile(), range(4)))
    assert (sum(lapsed for lapsed, _ in done), sum(placed_anew for _, placed_anew in done)) == (20, 20)
    dispatch()
    with sessions() as session:
        placed = select(Task.id, Task.attempt).where(Task.placed_on == "w1", Task.state == "queued")
        rows = list(session.execute(placed))
    assert sorted(rows) == sorted([(t, 2) for t in lapsing] + [(t, 1) for t in unclaimed])
