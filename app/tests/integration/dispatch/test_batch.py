from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session, sessionmaker

from labfleet.config import OrderSection
from labfleet.db.models import EventRow, OutboxRow, Task, User
from labfleet.dispatch.batch import Courier, dispatch_batch
from labfleet.dispatch.release import release
from labfleet.dispatch.runner_client import Status
from labfleet.jobs import attempts, finishing, service, transition, verbs
from labfleet.jobs.finishing import Ending
from labfleet.jobs.states import Outcome
from labfleet.jobs.tokens import verify_attempt

Sessions = sessionmaker[Session]
Submit = Callable[..., uuid.UUID]
Read = Callable[[uuid.UUID], Task]
Events = Callable[[uuid.UUID], list[str]]


@pytest.fixture(autouse=True)
def _fleet(make_worker: Callable[..., str]) -> None:
    make_worker("w1", slots=200, cores=200)


def outbox(sessions: Sessions) -> list[OutboxRow]:
    with sessions() as session:
        return list(session.scalars(select(OutboxRow).order_by(OutboxRow.id)))


def make_due(sessions: Sessions) -> None:
    with sessions.begin() as session:
        session.execute(update(OutboxRow).values(next_try_at=func.clock_timestamp()))


def cancel(sessions: Sessions, user: User, task_id: uuid.UUID) -> None:
    with sessions.begin() as session:
        verbs.cancel(session, user, service.get_task(session, user, task_id).job_id)


def claim(sessions: Sessions, task_id: uuid.UUID, number: int = 1) -> None:
    with sessions.begin() as session:
        attempts.claim(session, task_id, number, "w1", "c1", lease_seconds=60)


def wait_blocked(sessions: Sessions) -> None:
    """Until somebody waits for a lock that somebody else has."""
    here = "datname = current_database() AND wait_event_type = 'Lock'"
    waits = f"SELECT count(*) FROM pg_stat_activity WHERE {here}"
    end = time.monotonic() + 10
    with sessions() as session:
        while not session.scalar(text(waits)):
            session.rollback()
            assert time.monotonic() < end, "nobody waits"
            time.sleep(0.01)


def test_a_confirmed_message_leaves_the_outbox_and_is_noted(
    sessions: Sessions, runner: Any, dispatch: Callable[[], int], submit: Submit, task: Read, events: Events
) -> None:
    task_id = submit()
    assert dispatch() == 1
    verb, message = runner.got[0]
    assert (verb, set(message)) == ("schedule", {"task", "attempt", "key", "token", "worker"})
    assert (message["task"], message["attempt"], message["key"]) == (str(task_id), 1, "python")
    assert message["worker"] == "w1"
    verify_attempt(message["token"], task_id, 1, ["signing-key"])
    assert outbox(sessions) == []
    assert task(task_id).dispatched_at is not None
    assert events(task_id) == ["submitted", "dispatched"]
    assert dispatch() == 0


def test_what_was_not_confirmed_is_tried_again_after_a_growing_while(
    sessions: Sessions, runner: Any, dispatch: Callable[[], int], submit: Submit, task: Read
) -> None:
    task_id = submit()
    waits = []
    for status in (None, Status.FAILED, None):
        runner.status = status
        make_due(sessions)
        dispatch()
        with sessions() as session:
            age = func.extract("epoch", OutboxRow.next_try_at - func.clock_timestamp())
            waits.append(session.scalar(select(age)))
        assert dispatch() == 0
    row = outbox(sessions)[0]
    assert 0 < waits[0] < 0.5 < waits[1] < 1 < waits[2] < 2
    assert (row.tries, row.last_error) == (3, "the queue tier is away")
    assert task(task_id).dispatched_at is None
    runner.status = Status.CONFIRMED
    make_due(sessions)
    assert dispatch() == 1
    assert outbox(sessions) == []


def test_an_unroutable_task_stays_queued_and_says_why_until_it_is_routed(
    sessions: Sessions, runner: Any, dispatch: Callable[[], int], submit: Submit, task: Read, events: Events
) -> None:
    task_id = submit()
    runner.status = Status.UNROUTABLE
    for _ in range(3):
        make_due(sessions)
        dispatch()
    assert task(task_id).state == "queued"
    assert "no queue for the worker 'w1'" in task(task_id).message
    assert events(task_id) == ["submitted", "unroutable"]
    runner.status = Status.CONFIRMED
    make_due(sessions)
    dispatch()
    assert task(task_id).message == ""
    assert events(task_id) == ["submitted", "unroutable", "dispatched"]


def test_a_stale_message_is_dropped_unsent(
    sessions: Sessions, user: User, runner: Any, dispatch: Callable[[], int], submit: Submit
) -> None:
    cancelled, finished, taken_away = submit(), submit(), submit()
    runner.status = None
    dispatch()
    make_due(sessions)
    runner.got.clear()
    with sessions.begin() as session:
        session.execute(update(Task).where(Task.id == taken_away).values(placed_on=None, held=True))
    cancel(sessions, user, cancelled)
    claim(sessions, finished)
    cancel(sessions, user, finished)
    with sessions.begin() as session:
        finishing.finish(session, finished, 1, Ending(Outcome.STOPPED))
    assert dispatch() == 4
    assert runner.got == []
    assert outbox(sessions) == []


def test_a_cancellation_carries_neither_key_nor_token(
    sessions: Sessions, user: User, runner: Any, dispatch: Callable[[], int], submit: Submit
) -> None:
    task_id = submit()
    dispatch()
    claim(sessions, task_id)
    cancel(sessions, user, task_id)
    dispatch()
    assert runner.got[1] == ("cancel", {"task": str(task_id), "attempt": 1})
    assert outbox(sessions) == []


def test_a_worker_may_be_quicker_than_the_confirmation(
    sessions: Sessions, runner: Any, dispatch: Callable[[], int], submit: Submit, task: Read, events: Events
) -> None:
    task_id = submit()
    runner.while_sending = lambda: claim(sessions, task_id)
    dispatch()
    assert task(task_id).state == "running"
    assert events(task_id) == ["submitted", "claimed", "dispatched"]


def test_cancelling_does_not_wait_for_a_batch_under_way(
    sessions: Sessions, user: User, runner: Any, dispatch: Callable[[], int], submit: Submit, task: Read
) -> None:
    task_id = submit()
    runner.while_sending = lambda: cancel(sessions, user, task_id)
    dispatch()
    assert task(task_id).state == "cancelled"
    assert outbox(sessions) == []


def test_two_dispatchers_send_each_message_once(
    sessions: Sessions, user: User, runner: Any, make_courier: Callable[[Any], Courier], make_tasks: Any
) -> None:
    make_tasks(user, 120)
    with sessions.begin() as session:
        assert release(session, OrderSection(release_batch=120)) == 120
    both = threading.Barrier(2, timeout=10)
    first_batches = iter([both.wait, both.wait])

    def meet() -> None:
        next(first_batches, int)()

    runner.while_sending = meet

    def drain(_: int) -> int:
        sent = 0
        while True:
            with sessions.begin() as session:
                picked = dispatch_batch(session, make_courier(runner))
            if not picked:
                return sent
            sent += picked

    with ThreadPoolExecutor(2) as pool:
        shares = list(pool.map(drain, range(2)))
    tasks = [message["task"] for _, message in runner.got]
    assert sum(shares) == len(tasks) == len(set(tasks)) == 120
    assert min(shares) > 0
    assert {message["worker"] for _, message in runner.got} == {"w1"}
    assert outbox(sessions) == []


def test_a_dispatcher_that_dies_while_it_sends_leaves_the_row(
    sessions: Sessions, runner: Any, dispatch: Callable[[], int], submit: Submit
) -> None:
    submit()

    def die() -> None:
        raise KeyboardInterrupt

    runner.while_sending = die
    with pytest.raises(KeyboardInterrupt):
        dispatch()
    runner.while_sending = lambda: None
    assert dispatch() == 1
    assert len(runner.got) == 2


def test_the_event_names_the_worker(sessions: Sessions, dispatch: Callable[[], int], submit: Submit) -> None:
    task_id = submit()
    dispatch()
    with sessions() as session:
        wanted = select(EventRow.detail).where(EventRow.task_id == task_id, EventRow.event == "dispatched")
        assert session.scalar(wanted) == {"worker": "w1"}


def test_settling_waits_for_nobody_who_holds_the_job_or_the_task(
    sessions: Sessions,
    runner: Any,
    dispatch: Callable[[], int],
    submit: Submit,
    task: Read,
    events: Events,
) -> None:
    first, second = submit(), submit()
    with sessions.begin() as holder:

        def hold() -> None:
            transition.lock_task(holder, first)

        runner.while_sending = hold
        assert dispatch() == 2  # it would hang here, or end in a deadlock
    assert (task(first).dispatched_at, task(second).dispatched_at) != (None, None)
    assert task(first).dispatched_at is None
    assert events(first) == events(second) == ["submitted", "dispatched"]
    assert outbox(sessions) == []


def test_a_job_is_deleted_while_its_message_is_sent(
    sessions: Sessions, user: User, runner: Any, dispatch: Callable[[], int], submit: Submit
) -> None:
    """The dispatcher has the message and will write an event of the task; the deletion wants both."""
    task_id = submit()
    with sessions() as session:
        job_id = session.get_one(Task, task_id).job_id

    def delete() -> None:
        with sessions.begin() as session:
            verbs.remove(session, user, job_id)

    def delete_meanwhile() -> None:
        cancel(sessions, user, task_id)
        deletions.append(pool.submit(delete))
        wait_blocked(sessions)

    deletions: list[Future[None]] = []
    runner.while_sending = delete_meanwhile
    with ThreadPoolExecutor(1) as pool:
        assert dispatch() == 1
        deletions[0].result()
    with sessions() as session:
        assert session.get(Task, task_id) is None
    assert outbox(sessions) == []
