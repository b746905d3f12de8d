"""Whose failure it was and what to do, in a scientist's words."""

from __future__ import annotations

from dataclasses import dataclass

from labfleet.jobs.states import Failure, State
from labfleet.web.api.schemas import Task


@dataclass(frozen=True)
class Advice:
    """A box at the top of a job's page. `kind` is a CSS class."""

    kind: str
    title: str
    message: str
    todo: str


def advice_for(task: Task) -> Advice | None:
    """What to tell about a task; None where its state says enough."""
    if task.state is State.FAILED:
        return _user_failure(task) if task.failure is Failure.USER else _system_failure(task)
    if task.state is State.PARTIAL:
        todo = (
            "Use what is there with care: the analysis did not end well. The end of the log often tells more."
        )
        return Advice("warn", "Only some of the results are there", task.message, todo)
    if task.state is State.INAPPLICABLE:
        todo = (
            "Nothing is broken: the analysis has no answer for these data. Choose other data, or another one."
        )
        return Advice("warn", "The analysis does not apply to these data", task.message, todo)
    if task.state is State.QUEUED and task.message:
        todo = "You need not do anything. If it stays like this, tell your admin."
        return Advice("warn", "Still waiting", task.message, todo)
    return None


def _user_failure(task: Task) -> Advice:
    todo = "The end of the log often tells more. Check the data and the parameters, then use 'Run again'."
    return Advice("failed", "The analysis failed", task.message, todo)


def _system_failure(task: Task) -> Advice:
    tries = "once" if task.attempt == 1 else f"{task.attempt} times"
    todo = (
        f"It was not your analysis: Labfleet tried {tries} and could not finish it. Use 'Run again' later; "
        f"if it fails again, give your admin the number of this job: {task.job}"
    )
    return Advice("failed", "Labfleet could not run the analysis", task.message, todo)
