"""What a user submits: one task, or a tree of tasks. The API's JSON Schema is made from here.

A node of the tree is `{sequential: [node, …]}`, `{parallel: [node, …]}` or a task; a task with a `sweep`
stands for as many parallel tasks as the sweep has points.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator

from labfleet.errors import InvalidJob
from labfleet.protocols.manifest import KEY

Name = Annotated[str, Field(min_length=1, max_length=200)]
TaskName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,63}$")]
TaskReference = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,63}(\[[0-9]{1,9}\])?$")]
Label = Annotated[str, Field(pattern=r"^[^,\x00-\x1f]{1,100}$")]
Priority = Annotated[int, Field(ge=-100, le=100)]
OnFailure = Literal["stop", "continue"]
TARGET = re.compile(r"^(parameters|inputs)\.([A-Za-z_][A-Za-z0-9_-]{0,63})$")


class Strict(BaseModel):
    """No unknown fields."""

    model_config = ConfigDict(extra="forbid")


class Source(Strict):
    """An output of an earlier task of the same job."""

    task: TaskReference
    output: Annotated[str, Field(min_length=1, max_length=64)]


def _kind_of_input(value: Any) -> str:
    return "<source>" if isinstance(value, Mapping | Source) else "<dataset>"


Input = Annotated[
    Annotated[uuid.UUID, Tag("<dataset>")] | Annotated[Source, Tag("<source>")],
    Discriminator(_kind_of_input),
]


class OwnNeeds(Strict):
    """What this task needs of its worker, where that differs from what its protocol says."""

    cores: Annotated[int, Field(ge=1, le=1024)] | None = None
    memory: Annotated[str, Field(pattern=r"^[1-9][0-9]{0,9}[KMGT]?$")] | None = None
    time: Annotated[str, Field(pattern=r"^[1-9][0-9]{0,6}[smhd]$")] | None = None
    tags: Annotated[list[Annotated[str, Field(pattern=KEY, max_length=64)]], Field(max_length=20)] = []


class Point(Strict):
    """One point of a sweep, written out."""

    parameters: dict[str, Any] = {}
    inputs: dict[str, Input] = {}


Values = Annotated[dict[str, Annotated[list[Any], Field(min_length=1)]], Field(min_length=1, max_length=20)]


Points = Annotated[list[Point], Field(min_length=1)]


class Sweep(Strict):
    """Many values for one task: `grid` combines all with all, `zip` takes the first of each, then the
    second of each …, `list` names each point. Names are `parameters.NAME` or `inputs.SLOT`."""

    grid: Values | None = None
    zip: Values | None = None
    list: Points | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Sweep:
        if sum(way is not None for way in (self.grid, self.zip, self.list)) != 1:
            raise ValueError("write exactly one of grid, zip and list")
        for name in self.grid or self.zip or {}:
            if not TARGET.fullmatch(name):
                raise ValueError(f"'{name}' is neither parameters.NAME nor inputs.SLOT")
        lengths = {name: len(values) for name, values in (self.zip or {}).items()}
        if len(set(lengths.values())) > 1:
            told = ", ".join(f"{name} has {length}" for name, length in lengths.items())
            raise ValueError(f"zip needs lists of one length, but {told}")
        return self


class TaskNode(Strict):
    """A leaf: one task, or a sweep of them."""

    task: TaskName
    protocol: Name
    version: Name | None = None
    parameters: dict[str, Any] = {}
    inputs: dict[str, Input] = {}
    optional: bool = False
    needs: OwnNeeds | None = None
    cache: bool | None = None
    sweep: Sweep | None = None
    on_failure: OnFailure = "continue"


class Sequential(Strict):
    """One after the other."""

    sequential: Annotated[list[TreeNode], Field(min_length=1)]
    name: Annotated[str, Field(max_length=100)] = ""
    on_failure: OnFailure = "stop"
    optional: bool = False


class Parallel(Strict):
    """All at once."""

    parallel: Annotated[list[TreeNode], Field(min_length=1)]
    name: Annotated[str, Field(max_length=100)] = ""
    on_failure: OnFailure = "continue"
    optional: bool = False


def _kind(value: Any) -> str | None:
    if isinstance(value, Mapping):
        return next((f"<{kind}>" for kind in ("sequential", "parallel", "task") if kind in value), None)
    kinds: dict[type, str] = {Sequential: "<sequential>", Parallel: "<parallel>", TaskNode: "<task>"}
    return kinds.get(type(value))


TreeNode = Annotated[
    Annotated[Sequential, Tag("<sequential>")]
    | Annotated[Parallel, Tag("<parallel>")]
    | Annotated[TaskNode, Tag("<task>")],
    Discriminator(
        _kind,
        custom_error_type="node",
        custom_error_message="a node has one of the fields sequential, parallel and task",
    ),
]


class JobSpec(Strict):
    """What to run: one task by its `protocol` (with parameters and inputs), or a `tree` of them."""

    protocol: Name | None = None
    version: Name | None = None
    parameters: dict[str, Any] = {}
    inputs: dict[str, uuid.UUID] = {}
    tree: TreeNode | None = None
    label: Annotated[str, Field(max_length=200)] = ""
    labels: Annotated[list[Label], Field(max_length=20)] = []
    note: Annotated[str, Field(max_length=10_000)] = ""
    priority: Priority = 0
    hold: bool = False
    cache: bool | None = None
    webhook: Annotated[str, Field(pattern=r"^https?://[^\s]+$", max_length=2000)] | None = None
    mail: bool | None = None

    @model_validator(mode="after")
    def _one_form(self) -> JobSpec:
        if (self.protocol is None) == (self.tree is None):
            raise ValueError("write either protocol (one task) or tree (several)")
        if self.tree is not None and self.model_fields_set & {"version", "parameters", "inputs", "cache"}:
            raise ValueError("with tree, version, parameters, inputs and cache belong into its tasks")
        return self

    @property
    def root(self) -> Sequential | Parallel | TaskNode:
        """The tree; a job of one task is a leaf."""
        if self.tree is not None:
            return self.tree
        return TaskNode(
            task="task",
            protocol=self.protocol or "",
            version=self.version,
            parameters=self.parameters,
            inputs=dict(self.inputs),
            cache=self.cache,
        )


def read(value: Any) -> JobSpec:
    """The specification in a JSON value; `InvalidJob` says of each fault where it stands (`path`)."""
    try:
        return JobSpec.model_validate(value)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False, include_context=False)
        raise InvalidJob([_fault(fault["loc"], fault["msg"]) for fault in faults]) from None


def _fault(location: tuple[int | str, ...], message: str) -> dict[str, str]:
    # The tags of unions stand in pydantic's path, but not in the document.
    path = ".".join(str(part) for part in location if not str(part).startswith("<"))
    return {"path": path or "job", "message": message.removeprefix("Value error, ")}


Sequential.model_rebuild()
Parallel.model_rebuild()
JobSpec.model_rebuild()
