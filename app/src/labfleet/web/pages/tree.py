"""A job's tree as the lines of a page: inner nodes with their count, and the tasks below them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from labfleet.db.models import Node, Task
from labfleet.jobs.explain import Reason
from labfleet.web.api import schemas, views

MAX_INDENT = 6
# The order in which a job's tasks are drawn side by side; `skipped` and `forgiven` are no states.
ORDER = (
    *("success", "forgiven", "partial", "inapplicable", "failed"),
    *("cancelled", "skipped", "running", "queued"),
)
WIDTH = 1000
DIFFERENCES = 6
WORD = 40


@dataclass(frozen=True)
class Row:
    """One line: a node or a task, `depth` steps to the right."""

    depth: int
    node: Node | None = None
    task: schemas.Task | None = None
    seconds: float | None = None
    differs: str = ""
    """What tells a task of a sweep from its neighbours."""


@dataclass(frozen=True)
class Bar:
    """A part of the bar of states, `WIDTH` wide as a whole."""

    state: str
    count: int
    left: float
    width: float


def rows(nodes: Sequence[Node], tasks: Sequence[Task], reasons: Mapping[uuid.UUID, Reason]) -> Iterator[Row]:
    """The tasks in their order, each node before the first task that stands in it."""
    by_number = {node.number: node for node in nodes}
    told: set[int] = set()
    varied = _varied(tasks)
    for task in tasks:
        above = _above(by_number, task.node)
        for depth, node in enumerate(above):
            if node.number not in told:
                told.add(node.number)
                yield Row(min(depth, MAX_INDENT), node=node)
        yield Row(
            min(len(above), MAX_INDENT),
            task=views.task(task, reasons.get(task.id)),
            seconds=seconds(task.started_at, task.finished_at),
            differs=_differs(task, varied[task.node, task.protocol_version_id]),
        )


def _varied(tasks: Sequence[Task]) -> dict[tuple[int | None, uuid.UUID], list[str]]:
    """By node and protocol: the parameters that are not the same for all of these tasks."""
    groups: dict[tuple[int | None, uuid.UUID], list[Task]] = {}
    for task in tasks:
        groups.setdefault((task.node, task.protocol_version_id), []).append(task)
    return {
        key: [
            name
            for name in group[0].parameters
            if len({_word(one.parameters.get(name)) for one in group}) > 1
        ]
        for key, group in groups.items()
    }


def _differs(task: Task, names: Sequence[str]) -> str:
    return ", ".join(f"{name} = {_word(task.parameters.get(name))}" for name in names[:DIFFERENCES])


def _word(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= WORD else text[:WORD] + "…"


def _above(by_number: Mapping[int, Node], number: int | None) -> list[Node]:
    path: list[Node] = []
    while number is not None:
        node = by_number[number]
        path.append(node)
        number = node.parent
    return path[::-1]


def bars(counts: Mapping[str, int]) -> list[Bar]:
    """The states of a job's tasks side by side."""
    total = counts["total"] or 1
    found, left = [], 0.0
    for state in ORDER:
        if counts[state]:
            width = counts[state] / total * WIDTH
            found.append(Bar(state, counts[state], left, width))
            left += width
    return found


def seconds(begin: datetime | None, end: datetime | None) -> float | None:
    """From one time to the other, or until now; None for what has not begun."""
    return ((end or datetime.now(UTC)) - begin).total_seconds() if begin else None


def duration(value: float) -> str:
    """`95` becomes `1 min 35 s`: the two largest units."""
    whole = round(max(value, 0))
    if whole < 60:
        return f"{whole} s"
    units: Iterable[tuple[str, int]] = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    parts: list[str] = []
    for unit, size in units:
        count, whole = divmod(whole, size)
        if count or parts:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])
