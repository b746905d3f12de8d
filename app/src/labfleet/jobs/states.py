"""The states of a task, the events that change them, and the one table that relates the two."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum


class State(StrEnum):
    """Where a task or a job stands. The last five are final."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCESS = "success"
    FAILED = "failed"
    PARTIAL = "partial"
    INAPPLICABLE = "inapplicable"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Whether nothing can change it any more."""
        return self in FINAL


FINAL = frozenset({State.SUCCESS, State.FAILED, State.PARTIAL, State.INAPPLICABLE, State.CANCELLED})

SENTENCES: dict[State, str] = {
    State.QUEUED: "Waits for a worker.",
    State.RUNNING: "Runs on a worker.",
    State.SUCCESS: "Finished; the results are there.",
    State.FAILED: "Failed; the message says why.",
    State.PARTIAL: "Some of its results are there; the message says what is missing.",
    State.INAPPLICABLE: "The protocol does not apply to these inputs.",
    State.CANCELLED: "Cancelled before it finished.",
}


class Failure(StrEnum):
    """Whose failure it was."""

    USER = "user"
    SYSTEM = "system"


class Event(StrEnum):
    """What can happen to a task."""

    SUBMITTED = "submitted"
    DISPATCHED = "dispatched"
    UNROUTABLE = "unroutable"
    RESENT = "resent"
    CLAIMED = "claimed"
    LEASE_LAPSED = "lease_lapsed"
    HANDED_BACK = "handed_back"
    RETRIED = "retried"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    PARTIAL = "partial"
    INAPPLICABLE = "inapplicable"
    CANCEL_REQUESTED = "cancel_requested"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"
    REUSED = "reused"
    REOPENED = "reopened"


class Outcome(StrEnum):
    """How a worker says that an attempt ended. `partial`: not well, but some of the outputs that its protocol
    declares are there. `stopped`: by SIGTERM."""

    SUCCESS = "success"
    FAILED = "failed"
    PARTIAL = "partial"
    INAPPLICABLE = "inapplicable"
    STOPPED = "stopped"


# `dispatched` is a note: the confirmation may be recorded after a quick worker has claimed, or finished.
# `reopened` is the one way out of a final state: somebody asked for it (retry, force-retry, reset).
TRANSITIONS: dict[tuple[State | None, Event], State] = {
    (None, Event.SUBMITTED): State.QUEUED,
    (State.QUEUED, Event.UNROUTABLE): State.QUEUED,
    (State.QUEUED, Event.RESENT): State.QUEUED,
    (State.QUEUED, Event.CLAIMED): State.RUNNING,
    (State.QUEUED, Event.CANCELLED): State.CANCELLED,
    (State.QUEUED, Event.SKIPPED): State.CANCELLED,
    (State.QUEUED, Event.REUSED): State.SUCCESS,
    (State.QUEUED, Event.INAPPLICABLE): State.INAPPLICABLE,
    (State.RUNNING, Event.LEASE_LAPSED): State.QUEUED,
    (State.RUNNING, Event.HANDED_BACK): State.QUEUED,
    (State.RUNNING, Event.RETRIED): State.QUEUED,
    (State.RUNNING, Event.CANCEL_REQUESTED): State.RUNNING,
    (State.RUNNING, Event.SUCCEEDED): State.SUCCESS,
    (State.RUNNING, Event.FAILED): State.FAILED,
    (State.RUNNING, Event.PARTIAL): State.PARTIAL,
    (State.RUNNING, Event.INAPPLICABLE): State.INAPPLICABLE,
    (State.RUNNING, Event.CANCELLED): State.CANCELLED,
}
TRANSITIONS |= {(state, Event.DISPATCHED): state for state in State}
TRANSITIONS |= {(state, Event.REOPENED): State.QUEUED for state in FINAL}


def successor(state: State | None, event: Event) -> State | None:
    """The state after `event`, or None if the table does not allow it."""
    return TRANSITIONS.get((state, event))


@dataclass(frozen=True)
class Tally:
    """How many tasks of a job stand where. `skipped` and `forgiven` ones are not counted by their state:
    the first had no sense after an earlier failure, the second were optional."""

    queued: int = 0
    running: int = 0
    success: int = 0
    failed: int = 0
    partial: int = 0
    inapplicable: int = 0
    cancelled: int = 0
    skipped: int = 0
    forgiven: int = 0

    @property
    def total(self) -> int:
        """All tasks."""
        return sum(getattr(self, part.name) for part in fields(self))


def bucket(state: State, *, optional: bool = False, skipped: bool = False) -> str:
    """The part of the tally that counts such a task."""
    if state.final and state is not State.SUCCESS:
        if skipped:
            return "skipped"
        if optional:
            return "forgiven"
    return state.value


def job_state(tally: Tally) -> State:
    """A job's state from those of its tasks (at least one)."""
    if tally.queued + tally.running:
        begun = tally.total > tally.queued
        return State.RUNNING if begun else State.QUEUED
    lost = [state for state in LOSSES if getattr(tally, state.value)]
    if not lost and not tally.partial and not tally.skipped:
        return State.SUCCESS
    if tally.success or tally.partial:
        return State.PARTIAL
    return lost[0] if lost else State.CANCELLED


# In this order: the first of them that some task has is the state of a job without any result.
LOSSES = (State.FAILED, State.CANCELLED, State.INAPPLICABLE)
