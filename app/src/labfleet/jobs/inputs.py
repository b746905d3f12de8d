"""Where the files for a task's inputs come from: datasets, or outputs of earlier tasks of its job.

A task's `inputs` map a slot to a dataset's id, or to `{"task": name, "output": output}`.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, String, and_, cast, exists, func, select
from sqlalchemy.orm import Session, aliased

from labfleet.datasets.access import visible_to
from labfleet.db.models import Artifact, Dataset, Task, User
from labfleet.errors import NotFound
from labfleet.jobs.states import State


@dataclass(frozen=True)
class InputFile:
    """A file of the store for one input slot."""

    slot: str
    name: str
    media_type: str
    sha256: str
    size: int


def resolve(session: Session, task: Task) -> dict[str, InputFile]:
    """The files of all input slots; `NotFound` if an earlier task's output is not there any more."""
    return {slot: _resolve(session, task, slot, given) for slot, given in sorted(task.inputs.items())}


def resolve_one(session: Session, task: Task, slot: str) -> InputFile:
    """The file of one slot; `NotFound` if there is no such slot."""
    if slot not in task.inputs:
        raise NotFound(f"The task has no input '{slot[:80]}'.", hint="The claim lists the inputs.")
    return _resolve(session, task, slot, task.inputs[slot])


def _resolve(session: Session, task: Task, slot: str, given: str | Mapping[str, Any]) -> InputFile:
    if isinstance(given, str):
        # By name: the dispatcher may read no more of a dataset.
        columns = select(Dataset.name, Dataset.media_type, Dataset.sha256, Dataset.size)
        return InputFile(slot, *session.execute(columns.where(Dataset.id == uuid.UUID(given))).one())
    found = session.scalars(
        select(Artifact)
        .join(Task, and_(Task.id == Artifact.task_id, Task.attempt == Artifact.attempt))
        .where(Task.job_id == task.job_id, Task.name == given["task"], Artifact.output == given["output"])
    ).one_or_none()
    if found is None:
        raise NotFound(
            f"The task '{given['task']}' has left no output '{given['output']}' for the input '{slot}'.",
            hint="Retry the job, so that the earlier task runs again.",
        )
    return InputFile(slot, found.name.rpartition("/")[2], found.media_type, found.sha256, found.size)


def missing() -> ColumnElement[bool]:
    """SQL on `Task`: whether an earlier task has left no file for one of its inputs."""
    given = func.jsonb_each(Task.inputs).table_valued("key", "value").alias("given")
    source = aliased(Task)
    value = given.c.value
    left = exists().where(
        source.job_id == Task.job_id,
        source.name == cast(value.op("->>")("task"), String),
        source.state.in_([State.SUCCESS, State.PARTIAL]),
        Artifact.task_id == source.id,
        Artifact.attempt == source.attempt,
        Artifact.output == cast(value.op("->>")("output"), String),
    )
    lacking = select(1).select_from(given).where(func.jsonb_typeof(value) == "object", ~left)
    return and_(func.cardinality(Task.sources) > 0, lacking.correlate(Task).exists())


def open_sources(session: Session, task: Task) -> bool:
    """Whether an input comes from a task that has not left it (yet)."""
    return bool(session.scalar(select(Task.id).where(Task.id == task.id, missing())))


@dataclass(frozen=True)
class Described:
    """An input for people: its file, and the dataset or the task that it comes from. `size` is None for
    what an earlier task has not left yet; `hidden` says that the dataset is not for whoever looks."""

    slot: str
    name: str
    size: int | None
    dataset: uuid.UUID | None = None
    source: uuid.UUID | None = None
    hidden: bool = False


def described(session: Session, viewer: User, task: Task) -> list[Described]:
    """All inputs of a task, also those that are not there yet."""
    seen = visible_ids(session, viewer, [task])
    return [_described(session, task, slot, given, seen) for slot, given in sorted(task.inputs.items())]


def visible_ids(session: Session, viewer: User, tasks: Iterable[Task]) -> set[uuid.UUID]:
    """The datasets that these tasks take, as far as the viewer may see them: one who may look at a job
    may not look at all of its data."""
    taken = {uuid.UUID(given) for task in tasks for given in task.inputs.values() if isinstance(given, str)}
    return set(session.scalars(select(Dataset.id).where(Dataset.id.in_(taken), visible_to(viewer))))


def _described(
    session: Session, task: Task, slot: str, given: str | Mapping[str, Any], seen: Collection[uuid.UUID]
) -> Described:
    if isinstance(given, str):
        dataset = session.get_one(Dataset, uuid.UUID(given))
        hidden = dataset.id not in seen
        return Described(slot, dataset.name, dataset.size, dataset=dataset.id, hidden=hidden)
    source = session.scalar(select(Task.id).where(Task.job_id == task.job_id, Task.name == given["task"]))
    name = f"{given['output']} of {given['task']}"
    return Described(slot, name, None, source=source)
