"""The shape of a job: its tree as numbered nodes and leaves, within the limits."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from labfleet.config import JobsSection
from labfleet.db.models import ProtocolVersion
from labfleet.errors import InvalidJob
from labfleet.jobs.needs import Needs
from labfleet.jobs.spec import JobSpec, Parallel, Sequential, TaskNode

Json = dict[str, Any]
Place = tuple[tuple[str, int], ...]
"""Way from the root: at each node its kind and the position of the child."""
Inner = Sequential | Parallel


@dataclass(frozen=True)
class PlannedNode:
    """A row of `nodes`."""

    number: int
    parent: int | None
    position: int
    kind: str
    name: str
    on_failure: str
    optional: bool
    total: int
    last: int = 0


@dataclass
class Leaf:
    """One task, or a sweep of them. `points` holds what each task of a sweep has of its own."""

    path: str
    place: Place
    node: int | None
    position: int
    spec: TaskNode
    size: int = 1
    version: ProtocolVersion | None = None
    needs: Needs | None = None
    parameters: Json = field(default_factory=dict)
    inputs: Json = field(default_factory=dict)
    cache: str | None = None
    points: list[Json] | None = None

    @property
    def is_first(self) -> bool:
        """Whether nothing comes before it."""
        return all(kind != "sequential" or position == 0 for kind, position in self.place)

    @property
    def sources(self) -> list[str]:
        """Names of the earlier tasks from which it takes inputs."""
        given = [self.inputs, *(point.get("i", {}) for point in self.points or [])]
        return sorted(
            {value["task"] for inputs in given for value in inputs.values() if isinstance(value, dict)}
        )


def lay_out(spec: JobSpec, limits: JobsSection) -> tuple[list[PlannedNode], list[Leaf]]:
    """Nodes, parents first, and leaves in the document's order; `InvalidJob` for too large or deep a tree."""
    walk = _Walk(limits)
    root = spec.root
    if isinstance(root, TaskNode) and root.sweep is None:
        walk.leaf(root, "tree" if spec.tree else "job", (), None, 0)
    else:
        walk.visit(root, "tree", (), None, 0)
    return [walk.closed(node) for node in walk.nodes], walk.leaves


class _Walk:
    """Numbers nodes, parents first, and collects leaves; refuses what passes the limits."""

    def __init__(self, limits: JobsSection) -> None:
        self._limits = limits
        self._tasks = 0
        self.nodes: list[PlannedNode] = []
        self.leaves: list[Leaf] = []
        self._last: dict[int, int] = {}

    def visit(
        self,
        node: Inner | TaskNode,
        path: str,
        place: Place,
        parent: int | None,
        position: int,
    ) -> None:
        if len(place) > self._limits.max_depth:
            raise InvalidJob(
                [{"path": path, "message": f"the tree is deeper than {self._limits.max_depth} nodes"}]
            )
        if isinstance(node, TaskNode) and node.sweep is None:
            self.leaf(node, path, place, parent, position)
            return
        kind, children = _children(node)
        number = len(self.nodes)
        total = _size(node) if isinstance(node, TaskNode) else len(children)
        name = node.task if isinstance(node, TaskNode) else node.name
        self.nodes.append(
            PlannedNode(number, parent, position, kind, name, node.on_failure, node.optional, total)
        )
        if isinstance(node, TaskNode):
            self.leaf(node, path, (*place, (kind, 0)), number, 0)
        for index, child in enumerate(children):
            self.visit(child, f"{path}.{kind}.{index}", (*place, (kind, index)), number, index)
        self._last[number] = len(self.nodes) - 1

    def leaf(self, node: TaskNode, path: str, place: Place, parent: int | None, position: int) -> None:
        """Enter a task or a sweep."""
        size = _size(node)
        self._tasks += size
        if self._tasks > self._limits.max_tasks:
            where = f"{path}.sweep" if node.sweep else path
            most = self._limits.max_tasks
            message = f"the job would have {self._tasks} tasks or more; at most {most} are allowed"
            raise InvalidJob([{"path": where, "message": message}])
        self.leaves.append(Leaf(path, place, parent, position, node, size))

    def closed(self, node: PlannedNode) -> PlannedNode:
        """The node with the number of the last one below it."""
        return PlannedNode(**{**vars(node), "last": self._last[node.number]})


def _children(node: Inner | TaskNode) -> tuple[str, list[Any]]:
    if isinstance(node, Sequential):
        return "sequential", node.sequential
    return "parallel", node.parallel if isinstance(node, Parallel) else []


def _size(node: TaskNode) -> int:
    sweep = node.sweep
    if sweep is None:
        return 1
    if sweep.grid is not None:
        return math.prod(len(values) for values in sweep.grid.values())
    if sweep.zip is not None:
        return len(next(iter(sweep.zip.values())))
    return len(sweep.list or [])
