"""What an ending means, and whose failure it was."""

from __future__ import annotations

import pytest

from labfleet.jobs.finishing import Ending as Reported
from labfleet.jobs.states import Failure, Outcome
from labfleet.worker.execution import Ending
from labfleet.worker.verdict import judge, partial, system_failure


@pytest.mark.parametrize(
    ("ending", "outcome", "failure", "words"),
    [
        (Ending(0, "a warning"), Outcome.SUCCESS, None, ""),
        (Ending(65, "too few genes"), Outcome.INAPPLICABLE, None, "too few genes"),
        (Ending(65), Outcome.INAPPLICABLE, None, "does not apply"),
        (Ending(1, "no such column"), Outcome.FAILED, Failure.USER, "exit code 1: no such column"),
        (Ending(3), Outcome.FAILED, Failure.USER, "exit code 3; it printed no reason"),
        (Ending(127, "prlimit: …"), Outcome.FAILED, Failure.USER, "command could not be run"),
        (Ending(137), Outcome.FAILED, Failure.USER, "more memory"),
        (Ending(139), Outcome.FAILED, Failure.USER, "signal 11"),
        (Ending(143, exceeded="It ran longer"), Outcome.FAILED, Failure.USER, "It ran longer"),
        (Ending(None, exceeded="memory"), Outcome.FAILED, Failure.USER, "memory"),
        (Ending(None, "bwrap: no"), Outcome.FAILED, Failure.SYSTEM, "could not be started: bwrap: no"),
        (Ending(0, stopped=True), Outcome.STOPPED, None, "stopped"),
        (Ending(143, stopped=True, exceeded="x"), Outcome.STOPPED, None, "stopped"),
    ],
)
def test_verdicts(ending: Ending, outcome: Outcome, failure: Failure | None, words: str) -> None:
    said = judge(ending)

    assert (said["outcome"], said["failure"]) == (outcome, failure)
    assert words in said["message"]
    assert said["exit_code"] == ending.exit_code or failure is Failure.SYSTEM


def test_the_server_takes_each() -> None:
    for ending in (Ending(0), Ending(65), Ending(1), Ending(None), Ending(1, stopped=True)):
        said = judge(ending)
        Reported(
            Outcome(said["outcome"]),
            said["failure"] and Failure(said["failure"]),
            said["exit_code"],
            said["message"],
        )


def test_a_failure_that_has_left_something_is_partial() -> None:
    said = partial(judge(Ending(3, "no more rows")), "'table'")

    assert (said["outcome"], said["failure"], said["exit_code"]) == (Outcome.PARTIAL, None, 3)
    assert said["message"] == "It ended with exit code 3: no more rows. What it left is kept: 'table'."


def test_messages_are_bounded() -> None:
    assert len(partial(judge(Ending(3)), "x" * 10_000)["message"]) == 2000
    assert len(system_failure("x" * 10_000)["message"]) == 2000
