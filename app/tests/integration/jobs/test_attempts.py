from __future__ import annotations

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from labfleet.db.models import Attempt, Task, User
from labfleet.errors import (
    AlreadyClaimed,
    AttemptSuperseded,
    Invalid,
    LogGap,
    NotFound,
    TaskCancelled,
    TaskFinal,
)
from labfleet.jobs import attempts, finishing, service, verbs
from labfleet.jobs.attempts import LogChunk, NewArtifact
from labfleet.jobs.finishing import Ending
from labfleet.jobs.states import Outcome

Sessions = sessionmaker[Session]
NewTask = Callable[..., uuid.UUID]
Read = Callable[[uuid.UUID], Task]
ARTIFACT = NewArtifact("out.txt", "text", "text/plain", "c" * 64, 5, "out")


def test_a_claim_opens_the_lease_by_the_databases_clock(
    sessions: Sessions, claimed: NewTask, task: Read
) -> None:
    row = task(claimed())
    with sessions() as session:
        now = session.scalar(select(func.clock_timestamp()))
        attempt = session.scalars(select(Attempt)).one()
    assert (row.state, row.worker, row.attempt) == ("running", "w1", 1)
    assert row.lease_until is not None
    assert row.started_at is not None
    # The clock is looked at once for each.
    assert abs(row.lease_until - row.started_at - timedelta(seconds=60)) < timedelta(seconds=1)
    assert abs(now - row.started_at) < timedelta(seconds=10)
    assert (attempt.worker, attempt.claim_id, attempt.ended_at) == ("w1", "c1", None)


def test_the_job_follows_its_task(sessions: Sessions, user: User, claimed: NewTask) -> None:
    task_id = claimed()
    with sessions.begin() as session:
        job_id = service.get_task(session, user, task_id).job_id
        assert service.get_job_row(session, user, job_id).state == "running"
        finishing.finish(session, task_id, 1, Ending(Outcome.SUCCESS, exit_code=0))
        job = service.get_job_row(session, user, job_id)
    assert job.state == "success"
    assert job.finished_at is not None


def test_the_same_claim_again_is_answered_alike_and_another_is_refused(
    sessions: Sessions, claimed: NewTask
) -> None:
    task_id = claimed()
    with sessions.begin() as session:
        assert attempts.claim(session, task_id, 1, "w1", "c1", lease_seconds=60).worker == "w1"
        with pytest.raises(AlreadyClaimed, match="w1"):
            attempts.claim(session, task_id, 1, "w2", "c2", lease_seconds=60)


def test_of_many_claims_at_once_one_wins(sessions: Sessions, submit: NewTask) -> None:
    task_id = submit()

    def claim(number: int) -> bool:
        try:
            with sessions.begin() as session:
                attempts.claim(session, task_id, 1, f"w{number}", f"c{number}", lease_seconds=60)
        except AlreadyClaimed:
            return False
        return True

    with ThreadPoolExecutor(20) as pool:
        assert sum(pool.map(claim, range(20))) == 1


def test_a_heartbeat_extends_the_lease_and_carries_progress(
    sessions: Sessions, claimed: NewTask, task: Read
) -> None:
    task_id = claimed()
    before = task(task_id).lease_until
    with sessions.begin() as session:
        cancel = attempts.heartbeat(
            session, task_id, 1, lease_seconds=90, progress=0.4, progress_text="half" * 500
        )
        attempts.heartbeat(session, task_id, 1, lease_seconds=90)
    row = task(task_id)
    assert not cancel
    assert before is not None
    assert row.lease_until is not None
    assert row.lease_until > before + timedelta(seconds=25)
    assert row.progress == 0.4
    assert len(row.progress_text) == attempts.MAX_PROGRESS_TEXT


@pytest.mark.parametrize("progress", [-0.1, 1.1, float("nan")])
def test_progress_lies_between_zero_and_one(sessions: Sessions, claimed: NewTask, progress: float) -> None:
    with sessions() as session, pytest.raises(Invalid):
        attempts.heartbeat(session, claimed(), 1, lease_seconds=60, progress=progress)


def test_log_chunks_arrive_once_whatever_is_repeated(sessions: Sessions, claimed: NewTask) -> None:
    task_id = claimed()

    def append(offset: int, size: int) -> LogChunk:
        with sessions.begin() as session:
            return attempts.append_log_position(session, task_id, 1, offset, size)

    assert append(0, 10) == LogChunk(position=0, skip=0)
    assert append(0, 10) == LogChunk(position=10, skip=10)
    assert append(5, 10) == LogChunk(position=10, skip=5)
    assert append(15, 3) == LogChunk(position=15, skip=0)
    with pytest.raises(LogGap) as caught:
        append(19, 1)
    assert caught.value.problem()["expected_offset"] == 18
    with sessions() as session:
        assert attempts.log_size(session, task_id, 1) == 18
        assert attempts.log_size(session, task_id, 2) == 0


def test_an_artifact_is_noted_once_and_the_last_upload_stands(
    sessions: Sessions, user: User, claimed: NewTask
) -> None:
    task_id = claimed()
    with sessions.begin() as session:
        first = attempts.record_artifact(session, task_id, 1, ARTIFACT).id
        assert attempts.record_artifact(session, task_id, 1, ARTIFACT).id == first
        other = NewArtifact("out.txt", "text", "text/plain", "d" * 64, 6)
        assert attempts.record_artifact(session, task_id, 1, other).size == 6
        rows = service.task_artifacts(session, user, task_id)
        assert [(row.name, row.sha256) for row in rows] == [("out.txt", "d" * 64)]
        assert service.read_artifact(session, user, first).size == 6


def test_an_artifact_of_a_superseded_attempt_does_not_count(
    sessions: Sessions, user: User, claimed: NewTask
) -> None:
    task_id = claimed()
    with sessions.begin() as session:
        attempts.record_artifact(session, task_id, 1, ARTIFACT)
        finishing.finish(session, task_id, 1, Ending(Outcome.STOPPED))
        assert service.task_artifacts(session, user, task_id) == []


def every_call(session: Session, task_id: uuid.UUID, number: int) -> list[Callable[[], object]]:
    return [
        lambda: attempts.heartbeat(session, task_id, number, lease_seconds=60),
        lambda: attempts.require_current(session, task_id, number),
        lambda: attempts.append_log_position(session, task_id, number, 0, 1),
        lambda: attempts.record_artifact(session, task_id, number, ARTIFACT),
        lambda: finishing.finish(session, task_id, number, Ending(Outcome.SUCCESS)),
    ]


@pytest.mark.parametrize("number", [1, 3])
def test_nothing_but_the_current_attempt_is_heard(
    sessions: Sessions, claimed: NewTask, task: Read, number: int
) -> None:
    task_id = claimed()
    with sessions.begin() as session:
        finishing.finish(session, task_id, 1, Ending(Outcome.STOPPED))
        attempts.claim(session, task_id, 2, "w2", "c2", lease_seconds=60)
    with sessions() as session:
        claim = lambda: attempts.claim(session, task_id, number, "w", "c", lease_seconds=1)  # noqa: E731
        for call in [claim, *every_call(session, task_id, number)]:
            with pytest.raises(AttemptSuperseded):
                call()
    assert (task(task_id).state, task(task_id).worker) == ("running", "w2")


def test_nothing_is_heard_before_the_claim(sessions: Sessions, submit: NewTask) -> None:
    task_id = submit()
    with sessions() as session:
        for call in every_call(session, task_id, 1):
            with pytest.raises(AttemptSuperseded, match="not claimed"):
                call()


def test_nothing_is_heard_after_the_end(sessions: Sessions, claimed: NewTask) -> None:
    task_id = claimed()
    with sessions.begin() as session:
        finishing.finish(session, task_id, 1, Ending(Outcome.INAPPLICABLE, message="no classes"))
        with pytest.raises(TaskFinal, match="inapplicable"):
            attempts.claim(session, task_id, 1, "w1", "c1", lease_seconds=60)
        for call in every_call(session, task_id, 1):
            with pytest.raises(TaskFinal):
                call()


def test_a_cancelled_task_says_so_to_whoever_claims_it(
    sessions: Sessions, user: User, submit: NewTask
) -> None:
    task_id = submit()
    with sessions.begin() as session:
        verbs.cancel(session, user, service.get_task(session, user, task_id).job_id)
        with pytest.raises(TaskCancelled):
            attempts.claim(session, task_id, 1, "w1", "c1", lease_seconds=60)


def test_an_unknown_task_is_not_found(sessions: Sessions) -> None:
    with sessions() as session, pytest.raises(NotFound):
        attempts.claim(session, uuid.uuid4(), 1, "w1", "c1", lease_seconds=60)
