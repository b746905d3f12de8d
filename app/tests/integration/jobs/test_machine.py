"""Random lives of a task, with duplicates and reordering, against the real functions and a real database."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from contextlib import suppress

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from labfleet.db.models import Attempt, EventRow, Job, Task, User
from labfleet.errors import LabfleetError
from labfleet.jobs import attempts, finishing, service, transition, verbs
from labfleet.jobs.finishing import Ending
from labfleet.jobs.states import TRANSITIONS, Event, Failure, Outcome, State

ENDINGS = [
    Ending(Outcome.SUCCESS),
    Ending(Outcome.PARTIAL),
    Ending(Outcome.INAPPLICABLE),
    Ending(Outcome.STOPPED),
    Ending(Outcome.FAILED, Failure.USER),
    Ending(Outcome.FAILED, Failure.SYSTEM),
]
numbers = st.integers(1, 4)
steps = st.one_of(
    st.tuples(st.just("claim"), numbers, st.sampled_from(["c1", "c2"])),
    st.tuples(st.just("heartbeat"), numbers, st.none()),
    st.tuples(st.just("finish"), numbers, st.sampled_from(ENDINGS)),
    st.tuples(st.just("lapse"), st.none(), st.none()),
    st.tuples(st.just("verb"), st.none(), st.sampled_from(sorted(set(verbs.JOB_VERBS) - {"delete"}))),
)


def take(session: Session, user: User, task_id: uuid.UUID, step: tuple[str, int, object]) -> None:
    match step:
        case ("claim", number, str(claim_id)):
            attempts.claim(session, task_id, number, "w", claim_id, lease_seconds=60)
        case ("heartbeat", number, _):
            attempts.heartbeat(session, task_id, number, lease_seconds=60)
        case ("finish", number, Ending() as ending):
            finishing.finish(session, task_id, number, ending)
        case ("lapse", _, _):
            task = transition.lock_task(session, task_id)
            if task.state == State.RUNNING:
                finishing.lapse(session, task)
        case (_, _, verb):
            verbs.JOB_VERBS[str(verb)](session, user, service.get_task(session, user, task_id).job_id)


# Seconds for the everyday run; LABFLEET_LIVES=10000 for the proof.
LIVES = int(os.environ.get("LABFLEET_LIVES", "200"))
REOPENING = {"retry", "force-retry", "reset"}


@settings(
    max_examples=LIVES, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(life=st.lists(steps, max_size=25))
def test_no_life_of_a_task_leaves_the_table(
    sessions: sessionmaker[Session],
    user: User,
    submit: Callable[..., uuid.UUID],
    life: list[tuple[str, int, object]],
) -> None:
    task_id = submit()
    final: str | None = None
    for step in life:
        with suppress(LabfleetError), sessions.begin() as session:
            take(session, user, task_id, step)
        with sessions() as session:
            state = session.get_one(Task, task_id).state
        assert final in {None, state} or step[2] in REOPENING
        final = state if State(state).final else None
    check_history(sessions, task_id)


def check_history(sessions: sessionmaker[Session], task_id: uuid.UUID) -> None:
    with sessions.begin() as session:
        task = session.get_one(Task, task_id)
        history = session.scalars(
            select(EventRow).where(EventRow.task_id == task_id).order_by(EventRow.id)
        ).all()
        open_attempts = session.scalars(
            select(Attempt.number).where(Attempt.task_id == task_id, Attempt.ended_at.is_(None))
        ).all()
        state: str | None = None
        for row in history:
            assert row.from_state == state
            assert TRANSITIONS[State(state) if state else None, Event(row.event)] == row.to_state
            state = row.to_state
        assert task.state == state
        assert session.get_one(Job, task.job_id).state == state
        assert list(open_attempts) == ([task.attempt] if state == State.RUNNING else [])
        assert (task.failure is not None) == (state == State.FAILED)
        assert task.attempt <= task.max_attempts
