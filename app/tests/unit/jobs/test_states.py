from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labfleet.jobs.states import (
    FINAL,
    SENTENCES,
    TRANSITIONS,
    Event,
    State,
    Tally,
    bucket,
    job_state,
    successor,
)

LEGAL = {
    ("queued", "unroutable"): "queued",
    ("queued", "resent"): "queued",
    ("queued", "claimed"): "running",
    ("queued", "cancelled"): "cancelled",
    ("queued", "skipped"): "cancelled",
    ("queued", "reused"): "success",
    ("queued", "inapplicable"): "inapplicable",
    ("running", "lease_lapsed"): "queued",
    ("running", "handed_back"): "queued",
    ("running", "retried"): "queued",
    ("running", "cancel_requested"): "running",
    ("running", "succeeded"): "success",
    ("running", "failed"): "failed",
    ("running", "partial"): "partial",
    ("running", "inapplicable"): "inapplicable",
    ("running", "cancelled"): "cancelled",
}
# The one way out of a final state: somebody asks for it.
LEGAL |= {(str(state), "reopened"): "queued" for state in FINAL}


def tally_of(states: Iterable[str]) -> Tally:
    return Tally(**Counter(str(state) for state in states))


@pytest.mark.parametrize(("state", "event"), list(product(State, Event)))
def test_every_pair_of_state_and_event_goes_where_the_table_says(state: State, event: Event) -> None:
    expected = str(state) if event is Event.DISPATCHED else LEGAL.get((state, event))
    assert successor(state, event) == expected


def test_a_task_begins_by_being_submitted_and_in_no_other_way() -> None:
    assert [event for event in Event if successor(None, event)] == [Event.SUBMITTED]
    assert successor(None, Event.SUBMITTED) is State.QUEUED


@given(st.lists(st.sampled_from(Event), max_size=60))
def test_no_sequence_of_events_leaves_a_final_state(events: list[Event]) -> None:
    state = State.QUEUED
    for event in events:
        after = successor(state, event)
        assert not state.final or after in {None, state} or event is Event.REOPENED
        state = after or state


def test_every_state_can_be_reached() -> None:
    assert set(TRANSITIONS.values()) == set(State)


def test_every_state_has_a_sentence_for_people() -> None:
    assert set(SENTENCES) == set(State)
    assert len(FINAL) == 5


@pytest.mark.parametrize(
    ("tasks", "expected"),
    [
        (["queued"], "queued"),
        (["queued", "queued"], "queued"),
        (["queued", "success"], "running"),
        (["running", "failed"], "running"),
        (["success", "success"], "success"),
        (["success", "failed"], "partial"),
        (["success", "skipped"], "partial"),
        (["partial"], "partial"),
        (["partial", "failed"], "partial"),
        (["partial", "queued"], "running"),
        (["success", "forgiven"], "success"),
        (["forgiven"], "success"),
        (["failed", "skipped"], "failed"),
        (["inapplicable", "skipped"], "inapplicable"),
        (["failed", "cancelled"], "failed"),
        (["inapplicable", "cancelled"], "cancelled"),
        (["inapplicable", "inapplicable"], "inapplicable"),
    ],
)
def test_a_jobs_state_follows_from_its_tasks(tasks: list[str], expected: str) -> None:
    assert job_state(tally_of(tasks)) == expected


@given(st.lists(st.sampled_from(State), min_size=1))
def test_a_job_is_final_exactly_when_all_its_tasks_are(tasks: list[State]) -> None:
    assert job_state(tally_of(tasks)).final == all(task.final for task in tasks)


@pytest.mark.parametrize(
    ("state", "more", "expected"),
    [
        ("failed", {}, "failed"),
        ("failed", {"optional": True}, "forgiven"),
        ("partial", {}, "partial"),
        ("partial", {"optional": True}, "forgiven"),
        ("cancelled", {"skipped": True}, "skipped"),
        ("cancelled", {"skipped": True, "optional": True}, "skipped"),
        ("success", {"optional": True}, "success"),
        ("running", {"optional": True}, "running"),
    ],
)
def test_where_a_task_is_counted(state: str, more: dict[str, bool], expected: str) -> None:
    assert bucket(State(state), **more) == expected
