"""What is known of one column, gathered value by value."""

from __future__ import annotations

import math
import statistics
from array import array
from collections import Counter
from dataclasses import dataclass, field
from datetime import date
from typing import Any

MAX_DISTINCT = 10_000
FIELDS = (
    *("column", "type", "count", "missing", "distinct"),
    *("mean", "sd", "min", "q1", "median", "q3", "max", "top"),
)
_BOOLEANS = frozenset({"true", "false", "yes", "no"})


@dataclass
class Column:
    """A column; `add` each of its values, then ask for the `summary`."""

    name: str
    count: int = 0
    missing: int = 0
    values: Counter[str] = field(default_factory=Counter)
    overflow: bool = False
    numbers: array[float] = field(default_factory=lambda: array("d"))
    kinds: set[str] = field(default_factory=set)

    def add(self, text: str, is_missing: bool) -> None:
        """Take in one field."""
        if is_missing:
            self.missing += 1
            return
        self.count += 1
        self._count(text)
        kind, number = classify(text.strip())
        self.kinds.add(kind)
        if number is not None and self.numeric:
            self.numbers.append(number)

    @property
    def numeric(self) -> bool:
        """Whether all values so far are numbers."""
        return self.kinds <= {"integer", "number"}

    @property
    def type(self) -> str:
        """integer, number, boolean, date or text; `empty` without a value."""
        if not self.kinds:
            return "empty"
        if len(self.kinds) == 1:
            return next(iter(self.kinds))
        return "number" if self.numeric else "text"

    def summary(self, top: int) -> dict[str, Any]:
        """The column's row of the summary; what doesn't apply is an empty text."""
        row: dict[str, Any] = dict.fromkeys(FIELDS, "")
        distinct = f">{MAX_DISTINCT}" if self.overflow else len(self.values)
        row |= {"column": self.name, "type": self.type, "count": self.count, "missing": self.missing}
        row["distinct"] = distinct
        if self.type in ("integer", "number"):
            return row | numbers_of(self.numbers)
        row["top"] = "; ".join(f"{value} ({count})" for value, count in self.values.most_common(top))
        return row

    def _count(self, text: str) -> None:
        # Memory stays bounded: values that come late into a column of many are not counted.
        if text in self.values or len(self.values) < MAX_DISTINCT:
            self.values[text] += 1
        else:
            self.overflow = True


def classify(text: str) -> tuple[str, float | None]:
    """The kind of one value, and the number that it is."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if math.isfinite(number) and "_" not in text:
        return ("integer" if text.lstrip("+-").isdigit() else "number"), number
    if text.lower() in _BOOLEANS:
        return "boolean", None
    try:
        date.fromisoformat(text)
    except ValueError:
        return "text", None
    return "date", None


def numbers_of(numbers: array[float]) -> dict[str, float | str]:
    """Mean, standard deviation (n - 1), extremes and quartiles (type 7, as R and NumPy do by default)."""
    ordered = sorted(numbers)
    quartiles = [_quantile(ordered, share) for share in (0.25, 0.5, 0.75)]
    return {
        "mean": statistics.fmean(ordered),
        "sd": statistics.stdev(ordered) if len(ordered) > 1 else "",
        "min": ordered[0],
        **dict(zip(("q1", "median", "q3"), quartiles, strict=True)),
        "max": ordered[-1],
    }


def _quantile(ordered: list[float], share: float) -> float:
    position = share * (len(ordered) - 1)
    low = math.floor(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (position - low) * (ordered[high] - ordered[low])
