"""The states of a task, the events that change them, and the one table that relates the two."""

from __future__ import annotations

from collections.abc import Iterable
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
    State.PARTIAL: "Some of its tasks succeeded.",
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
    INAPPLICABLE = "inapplicable"
    CANCEL_REQUESTED = "cancel_requested"
    CANCELLED = "cancelled"


class Outcome(StrEnum):
    """How a worker says that an attempt ended. `stopped` means: by SIGTERM."""

    SUCCESS = "success"
    FAILED = "failed"
    INAPPLICABLE = "inapplicable"
    STOPPED = "stopped"


# `dispatched` is a note: the confirmation may be recorded after a quick worker has claimed, or finished.
TRANSITIONS: dict[tuple[State | None, Event], State] = {
    (None, Event.SUBMITTED): State.QUEUED,
    (State.QUEUED, Event.UNROUTABLE): State.QUEUED,
    (State.QUEUED, Event.RESENT): State.QUEUED,
    (State.QUEUED, Event.CLAIMED): State.RUNNING,
    (State.QUEUED, Event.CANCELLED): State.CANCELLED,
    (State.RUNNING, Event.LEASE_LAPSED): State.QUEUED,
    (State.RUNNING, Event.HANDED_BACK): State.QUEUED,
    (State.RUNNING, Event.RETRIED): State.QUEUED,
    (State.RUNNING, Event.CANCEL_REQUESTED): State.RUNNING,
    (State.RUNNING, Event.SUCCEEDED): State.SUCCESS,
    (State.RUNNING, Event.FAILED): State.FAILED,
    (State.RUNNING, Event.INAPPLICABLE): State.INAPPLICABLE,
    (State.RUNNING, Event.CANCELLED): State.CANCELLED,
} | {(state, Event.DISPATCHED): state for state in State}


def successor(state: State | None, event: Event) -> State | None:
    """The state after `event`, or None if the table does not allow it."""
    return TRANSITIONS.get((state, event))


def job_state(tasks: Iterable[State]) -> State:
    """A job's state from those of its tasks (at least one)."""
    states = set(tasks)
    if len(states) == 1:
        return states.pop()
    if not states <= FINAL:
        return State.RUNNING
    if State.SUCCESS in states or State.PARTIAL in states:
        return State.PARTIAL
    return next(state for state in (State.FAILED, State.CANCELLED) if state in states)
