from __future__ import annotations

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session, sessionmaker

from labfleet.db.models import Attempt, EventRow, OutboxRow, Task, User
from labfleet.dispatch.batch import Courier, dispatch_batch
from labfleet.dispatch.reconcile import reconcile
from labfleet.errors import AttemptSuperseded
from labfleet.jobs import attempts, finishing, service
from labfleet.jobs.finishing import Ending
from labfleet.jobs.states import Outcome

Sessions = sessionmaker[Session]
Submit = Callable[..., uuid.UUID]
Read = Callable[[uuid.UUID], Task]
UNCLAIMED = 60.0


def age(sessions: Sessions, column: str, seconds: float) -> None:
    values = {column: func.clock_timestamp() - timedelta(seconds=seconds)}
    with sessions.begin() as session:
        session.execute(update(Task).where(getattr(Task, column).is_not(None)).values(values))


def claim(sessions: Sessions, task_id: uuid.UUID, number: int) -> None:
    with sessions.begin() as session:
        attempts.claim(session, task_id, number, f"w{number}", f"c{number}", lease_seconds=60)


def events(sessions: Sessions, task_id: uuid.UUID) -> list[str]:
    with sessions() as session:
        statement = select(EventRow.event).where(EventRow.task_id == task_id).order_by(EventRow.id)
        return list(session.scalars(statement))


@pytest.fixture
def dispatch(sessions: Sessions, runner: Any, make_courier: Callable[[Any], Courier]) -> Callable[[], int]:
    def dispatch() -> int:
        with sessions.begin() as session:
            return dispatch_batch(session, make_courier(runner))

    return dispatch


def test_a_lease_that_holds_is_left_alone(sessions: Sessions, submit: Submit, task: Read) -> None:
    task_id = submit()
    claim(sessions, task_id, 1)
    assert reconcile(sessions, UNCLAIMED) == (0, 0)
    assert task(task_id).state == "running"


def test_a_lapsed_lease_makes_a_new_attempt_and_fences_the_old(
    sessions: Sessions, submit: Submit, task: Read
) -> None:
    task_id = submit()
    claim(sessions, task_id, 1)
    age(sessions, "lease_until", 1)
    assert reconcile(sessions, UNCLAIMED) == (1, 0)
    row = task(task_id)
    assert (row.state, row.attempt, row.worker, row.lease_until) == ("queued", 2, None, None)
    claim(sessions, task_id, 2)
    with sessions() as session:
        with pytest.raises(AttemptSuperseded):
            finishing.finish(session, task_id, 1, Ending(Outcome.SUCCESS))
        outcomes = list(session.execute(select(Attempt.number, Attempt.outcome).order_by(Attempt.number)))
        rows = list(session.execute(select(OutboxRow.kind, OutboxRow.attempt).order_by(OutboxRow.id)))
    assert outcomes == [(1, "lapsed"), (2, None)]
    assert rows == [("run", 1), ("run", 2)]
    assert task(task_id).worker == "w2"


def test_after_the_last_attempt_it_is_a_failure_of_the_system_with_its_reason(
    sessions: Sessions, user: User, submit: Submit, task: Read
) -> None:
    task_id = submit(max_attempts=2)
    for number in (1, 2):
        claim(sessions, task_id, number)
        age(sessions, "lease_until", 1)
        reconcile(sessions, UNCLAIMED)
    row = task(task_id)
    assert (row.state, row.failure, row.attempt) == ("failed", "system", 2)
    assert "Given up after 2 attempts" in row.message
    assert "w2" in row.message
    with sessions() as session:
        assert service.get_job(session, user, row.job_id).state == "failed"
    assert events(sessions, task_id)[-3:] == ["lease_lapsed", "claimed", "failed"]


def test_a_lapsed_task_that_was_to_be_cancelled_is_cancelled(
    sessions: Sessions, user: User, submit: Submit, task: Read
) -> None:
    task_id = submit()
    claim(sessions, task_id, 1)
    with sessions.begin() as session:
        service.cancel_job(session, user, task(task_id).job_id)
    age(sessions, "lease_until", 1)
    assert reconcile(sessions, UNCLAIMED) == (1, 0)
    assert task(task_id).state == "cancelled"


def test_a_message_that_nobody_claims_is_sent_again_ever_more_rarely(
    sessions: Sessions, runner: Any, dispatch: Callable[[], int], submit: Submit, task: Read
) -> None:
    task_id = submit()
    dispatch()
    for resends, (young, old) in enumerate([(50, 70), (110, 130), (230, 250)]):
        age(sessions, "dispatched_at", young)
        assert reconcile(sessions, UNCLAIMED) == (0, 0)
        age(sessions, "dispatched_at", old)
        assert reconcile(sessions, UNCLAIMED) == (0, 1)
        assert reconcile(sessions, UNCLAIMED) == (0, 0)
        assert dispatch() == 1
        assert task(task_id).resends == resends + 1
    assert [message["attempt"] for _, message in runner.got] == [1, 1, 1, 1]
    assert events(sessions, task_id) == ["submitted", "dispatched", *["resent", "dispatched"] * 3]


def test_what_the_outbox_still_holds_or_a_worker_has_is_not_sent_again(
    sessions: Sessions, runner: Any, dispatch: Callable[[], int], submit: Submit
) -> None:
    taken = submit()
    dispatch()
    claim(sessions, taken, 1)
    age(sessions, "dispatched_at", 1000)
    waiting = submit()
    assert reconcile(sessions, UNCLAIMED) == (0, 0)
    runner.status = None
    dispatch()
    assert reconcile(sessions, UNCLAIMED) == (0, 0)
    assert events(sessions, waiting) == ["submitted"]


def test_reconcilers_at_once_do_everything_once(
    sessions: Sessions, dispatch: Callable[[], int], submit: Submit
) -> None:
    lapsing, unclaimed = [submit() for _ in range(20)], [submit() for _ in range(20)]
    dispatch()
    for task_id in lapsing:
        claim(sessions, task_id, 1)
    age(sessions, "lease_until", 1)
    age(sessions, "dispatched_at", 100)
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: reconcile(sessions, UNCLAIMED), range(4)))
    assert (sum(lapsed for lapsed, _ in done), sum(resent for _, resent in done)) == (20, 20)
    with sessions() as session:
        rows = list(session.execute(select(OutboxRow.task_id, OutboxRow.attempt)))
    assert sorted(rows) == sorted([(t, 2) for t in lapsing] + [(t, 1) for t in unclaimed])
