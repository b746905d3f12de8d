"""What can be done to a job or a task, as buttons of its page: only what its state allows."""

from __future__ import annotations

from dataclasses import dataclass

from labfleet.jobs.states import State
from labfleet.web.api.schemas import JobSummary, Task


@dataclass(frozen=True)
class Action:
    """A button: the verb that it posts, its word, and what is asked before."""

    verb: str
    word: str
    question: str = ""
    kind: str = ""
    disabled: bool = False


CANCELLING = Action("cancel", "Cancelling…", kind="danger", disabled=True)


def of_job(job: JobSummary, *, cancelling: bool = False) -> list[Action]:
    """The buttons of a job, the likeliest first."""
    if not job.state.final:
        cancel = Action("cancel", "Cancel", "Cancel this job? What runs of it is stopped.", "danger")
        hold = Action("resume", "Go on") if job.held else Action("hold", "Hold back")
        return [CANCELLING if cancelling else cancel, *([hold] if job.held or job.counts.queued else [])]
    retry = Action("retry", "Retry what did not succeed")
    again = Action("again", "Run all of it again") if job.counts.total > 1 else None
    remove = Action(
        "delete", "Delete", "Delete this job with its logs and results? This is for good.", "danger"
    )
    wants_retry = job.state is not State.SUCCESS or job.counts.forgiven
    return [*([retry] if wants_retry else []), *([again] if again else []), remove]


def of_task(task: Task, *, cancelling: bool = False) -> list[Action]:
    """The buttons of one task of a tree."""
    if not task.state.final:
        cancel = Action("cancel", "Cancel this task", "Cancel this task?", "danger")
        return [CANCELLING if cancelling else cancel]
    if task.skipped:
        return []
    if task.state is State.SUCCESS:
        return [Action("force-retry", "Run it again", "Run this task again? Its result is replaced.")]
    return [Action("retry", "Retry this task")]
