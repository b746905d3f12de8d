"""Arrays as lines to plot: from a table's columns of numbers, or from JSON."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from labfleet.web.pages.tables import number, read_rows

POINTS = 10_000
LINES = 24
# A first column of such a name, or one that only grows, is what the others are plotted over.
ACROSS = frozenset({"x", "t", "time", "index", "step", "iteration"})

Values = list[float | None]


@dataclass(frozen=True)
class Series:
    """Lines over one axis; a gap is None. `every`: each how-manieth point it is (1: all of them). `units` are
    those of axis and lines, by their names, as far as they are known."""

    axis: str
    across: Values
    lines: dict[str, Values]
    every: int = 1
    units: Mapping[str, str] = field(default_factory=dict)


def read_series(text: str, separator: str | None, units: Mapping[str, str] | None = None) -> Series | None:
    """The lines that a file holds, at most `LINES` of `POINTS` points; None for one that holds none."""
    columns = _from_table(text, separator) if separator else _from_json(text)
    columns = {name: values for name, values in columns.items() if any(value is not None for value in values)}
    if not columns:
        return None
    length = max(map(len, columns.values()))
    columns = {name: values + [None] * (length - len(values)) for name, values in columns.items()}
    axis, across = next(iter(columns.items()))
    if len(columns) > 1 and _goes_across(axis, across):
        del columns[axis]
    else:
        axis, across = "index", [float(index) for index in range(length)]
    every = math.ceil(length / POINTS)
    lines = {name: values[::every] for name, values in list(columns.items())[:LINES]}
    known = {name: unit for name, unit in (units or {}).items() if name == axis or name in lines}
    return Series(axis, across[::every], lines, every, known)


def _goes_across(name: str, values: Sequence[float | None]) -> bool:
    known = [value for value in values if value is not None]
    if len(known) != len(values):
        return False
    grows = all(first < second for first, second in itertools.pairwise(known))
    starts = name.strip().lower().split(" ")[0].split("(")[0]
    return grows or (starts in ACROSS and known == sorted(known))


def _from_table(text: str, separator: str) -> dict[str, Values]:
    rows = read_rows(text, separator)
    if rows is None or len(rows) < 2:
        return {}
    head, *body = rows
    return {
        name: [number(row[column]) if column < len(row) else None for row in body]
        for column, name in enumerate(head)
    }


def _from_json(text: str) -> dict[str, Values]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    if isinstance(value, Mapping):
        return {str(name): _numbers(item) for name, item in value.items() if isinstance(item, list)}
    if isinstance(value, list) and value and all(isinstance(item, list) for item in value):
        return {f"{index}": _numbers(item) for index, item in enumerate(value)}
    return {"value": _numbers(value)} if isinstance(value, list) else {}


def _numbers(values: Sequence[Any]) -> Values:
    return [
        float(item)
        if isinstance(item, int | float) and not isinstance(item, bool) and math.isfinite(item)
        else None
        for item in values
    ]
