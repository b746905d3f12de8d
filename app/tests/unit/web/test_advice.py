"""Whose failure it was and what to do."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import pytest

from labfleet.jobs.states import Failure, State
from labfleet.web.api.schemas import Task
from labfleet.web.pages.advice import advice_for


def task(**changes: Any) -> Task:
    values: dict[str, Any] = {
        "id": uuid.UUID(int=1),
        "job": uuid.UUID(int=2),
        "name": "task",
        "ready": True,
        "held": False,
        "optional": False,
        "skipped": False,
        "reused_from": None,
        "reason": None,
        "protocol": "p",
        "version": "1",
        "commit": "a" * 40,
        "key": "r",
        "state": State.RUNNING,
        "failure": None,
        "message": "",
        "attempt": 1,
        "max_attempts": 3,
        "progress": 0,
        "progress_text": "",
        "worker": None,
        "exit_code": None,
        "created_at": datetime.now(UTC),
        "started_at": None,
        "finished_at": None,
        "parameters": {},
        "inputs": {},
    }
    return Task(**{**values, **changes})


@pytest.mark.parametrize("state", [State.QUEUED, State.RUNNING, State.SUCCESS, State.CANCELLED])
def test_nothing_is_told_where_the_state_says_enough(state: State) -> None:
    assert advice_for(task(state=state)) is None


def test_the_users_failure() -> None:
    advice = advice_for(task(state=State.FAILED, failure=Failure.USER, message="exit code 1"))
    assert advice and advice.kind == "failed"
    assert (advice.title, advice.message) == ("The analysis failed", "exit code 1")
    assert "log" in advice.todo


def test_ours() -> None:
    advice = advice_for(task(state=State.FAILED, failure=Failure.SYSTEM, attempt=3))
    assert advice and "not your analysis" in advice.todo and "3 times" in advice.todo
    assert str(uuid.UUID(int=2)) in advice.todo


def test_some_of_it() -> None:
    advice = advice_for(task(state=State.PARTIAL, message="It ended with exit code 1."))
    assert advice and (advice.kind, advice.message) == ("warn", "It ended with exit code 1.")


def test_inapplicable_and_waiting() -> None:
    inapplicable = advice_for(task(state=State.INAPPLICABLE, message="no table"))
    assert inapplicable and "Nothing is broken" in inapplicable.todo
    waiting = advice_for(task(state=State.QUEUED, message="No worker serves 'r'."))
    assert waiting and waiting.title == "Still waiting"
