from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from labfleet.db.models import Attempt, EventRow, OutboxRow, Task, User
from labfleet.errors import AttemptSuperseded, IllegalTransition, Invalid, TaskFinal, WrongState
from labfleet.jobs import attempts, finishing, service, transition, verbs
from labfleet.jobs.finishing import Ending
from labfleet.jobs.states import Event, Failure, Outcome

Sessions = sessionmaker[Session]
NewTask = Callable[..., uuid.UUID]
Read = Callable[[uuid.UUID], Task]
BROKEN = Ending(Outcome.FAILED, Failure.SYSTEM, message="disk full")


def events(sessions: Sessions, task_id: uuid.UUID) -> list[str]:
    with sessions() as session:
        return list(
            session.scalars(select(EventRow.event).where(EventRow.task_id == task_id).order_by(EventRow.id))
        )


@pytest.mark.parametrize(
    ("ending", "state", "failure"),
    [
        (Ending(Outcome.SUCCESS, exit_code=0), "success", None),
        (Ending(Outcome.FAILED, Failure.USER, 1, "division by zero"), "failed", "user"),
        (Ending(Outcome.PARTIAL, exit_code=1, message="half of it"), "partial", None),
        (Ending(Outcome.INAPPLICABLE, exit_code=65, message="one class only"), "inapplicable", None),
    ],
)
def test_an_ending_is_final_says_whose_failure_it_was_and_can_be_told_twice(
    sessions: Sessions, claimed: NewTask, task: Read, ending: Ending, state: str, failure: str | None
) -> None:
    task_id = claimed()
    for _ in range(2):
        with sessions.begin() as session:
            finishing.finish(session, task_id, 1, ending)
    row = task(task_id)
    assert (row.state, row.failure, row.message, row.exit_code) == (
        state,
        failure,
        ending.message,
        ending.exit_code,
    )
    assert row.finished_at is not None
    assert row.lease_until is None
    assert len(events(sessions, task_id)) == 3
    with sessions() as session:
        attempt = session.scalars(select(Attempt)).one()
    assert (attempt.outcome, attempt.message) == (ending.outcome, ending.message)


def test_another_ending_after_the_end_is_refused(sessions: Sessions, claimed: NewTask, task: Read) -> None:
    task_id = claimed()
    with sessions.begin() as session:
        finishing.finish(session, task_id, 1, Ending(Outcome.SUCCESS))
        with pytest.raises(TaskFinal):
            finishing.finish(session, task_id, 1, Ending(Outcome.FAILED, Failure.USER))
    assert task(task_id).state == "success"


@pytest.mark.parametrize(("outcome", "failure"), [(Outcome.FAILED, None), (Outcome.SUCCESS, Failure.USER)])
def test_a_failure_belongs_to_somebody_and_a_success_to_nobody(
    outcome: Outcome, failure: Failure | None
) -> None:
    with pytest.raises(Invalid):
        Ending(outcome, failure)


def test_a_system_failure_is_tried_again_later_and_given_up_after_the_last_attempt(
    sessions: Sessions, claimed: NewTask, task: Read
) -> None:
    task_id = claimed(max_attempts=2)
    with sessions.begin() as session:
        finishing.finish(session, task_id, 1, BROKEN, retry_seconds=100)
    row = task(task_id)
    assert (row.state, row.attempt, row.message, row.worker) == ("queued", 2, "disk full", None)
    with sessions.begin() as session:
        waits = session.scalar(
            select(func.extract("epoch", Task.not_before - func.clock_timestamp())).where(Task.id == task_id)
        )
        attempts.claim(session, task_id, 2, "w2", "c2", lease_seconds=60)
        finishing.finish(session, task_id, 2, BROKEN)
    row = task(task_id)
    assert 90 < waits <= 100
    assert (row.state, row.failure) == ("failed", "system")
    assert row.message == "Given up after 2 attempts. disk full"
    assert events(sessions, task_id) == ["submitted", "claimed", "retried", "claimed", "failed"]


def test_the_first_attempts_ending_may_be_repeated_though_the_second_runs(
    sessions: Sessions, claimed: NewTask, task: Read
) -> None:
    task_id = claimed()
    with sessions.begin() as session:
        finishing.finish(session, task_id, 1, BROKEN)
        attempts.claim(session, task_id, 2, "w2", "c2", lease_seconds=60)
        finishing.finish(session, task_id, 1, BROKEN)
        with pytest.raises(AttemptSuperseded):
            finishing.finish(session, task_id, 1, Ending(Outcome.SUCCESS))
    assert (task(task_id).state, task(task_id).attempt) == ("running", 2)


def test_a_stopped_attempt_is_handed_back_at_no_cost(
    sessions: Sessions, claimed: NewTask, task: Read
) -> None:
    task_id = claimed(max_attempts=1)
    with sessions.begin() as session:
        finishing.finish(session, task_id, 1, Ending(Outcome.STOPPED))
        attempts.claim(session, task_id, 2, "w2", "c2", lease_seconds=60)
        finishing.finish(session, task_id, 2, Ending(Outcome.SUCCESS))
    assert task(task_id).state == "success"
    assert events(sessions, task_id) == ["submitted", "claimed", "handed_back", "claimed", "succeeded"]


def cancel(session: Session, user: User, task_id: uuid.UUID) -> str:
    job_id = service.get_task(session, user, task_id).job_id
    verbs.cancel(session, user, job_id)
    return service.get_job_row(session, user, job_id).state


def test_cancelling_what_is_queued_is_final_at_once(
    sessions: Sessions, user: User, submit: NewTask, task: Read
) -> None:
    task_id = submit()
    for _ in range(2):
        with sessions.begin() as session:
            assert cancel(session, user, task_id) == "cancelled"
    assert events(sessions, task_id) == ["submitted", "cancelled"]
    assert task(task_id).message


@pytest.mark.parametrize(
    "ending", [Ending(Outcome.STOPPED), Ending(Outcome.FAILED, Failure.USER, 143), BROKEN]
)
def test_cancelling_what_runs_asks_the_worker_once_and_is_final_with_its_answer(
    sessions: Sessions, user: User, claimed: NewTask, task: Read, ending: Ending
) -> None:
    task_id = claimed()
    for _ in range(2):
        with sessions.begin() as session:
            assert cancel(session, user, task_id) == "running"
    with sessions.begin() as session:
        kinds = list(session.scalars(select(OutboxRow.kind).order_by(OutboxRow.id)))
        assert attempts.heartbeat(session, task_id, 1, lease_seconds=60)
        finishing.finish(session, task_id, 1, ending)
    assert kinds == ["cancel"]
    assert (task(task_id).state, task(task_id).failure) == ("cancelled", None)
    assert events(sessions, task_id) == ["submitted", "claimed", "cancel_requested", "cancelled"]


def test_a_success_that_came_before_the_cancellation_stands(
    sessions: Sessions, user: User, claimed: NewTask, task: Read
) -> None:
    task_id = claimed()
    with sessions.begin() as session:
        cancel(session, user, task_id)
        finishing.finish(session, task_id, 1, Ending(Outcome.SUCCESS))
        with pytest.raises(WrongState, match="success"):
            cancel(session, user, task_id)
    assert task(task_id).state == "success"


def test_an_event_that_the_table_does_not_know_changes_nothing(
    sessions: Sessions, submit: NewTask, task: Read
) -> None:
    task_id = submit()
    with sessions.begin() as session:
        row = transition.lock_task(session, task_id)
        with pytest.raises(IllegalTransition, match="queued; 'succeeded'"):
            transition.apply(session, row, Event.SUCCEEDED)
    assert task(task_id).state == "queued"
    assert events(sessions, task_id) == ["submitted"]
