"""What a run of a protocol left, read."""

from __future__ import annotations

import csv
from typing import Any


def table(run: Any, name: str) -> list[dict[str, str]]:
    """The rows of a CSV that a run left; the run went well."""
    assert run.code == 0, run.error
    with (run.outputs / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def by(rows: list[dict[str, str]], *columns: str) -> dict[Any, dict[str, str]]:
    """The rows by the values of a column, or by the tuples of several."""
    return {row[columns[0]] if len(columns) == 1 else tuple(row[c] for c in columns): row for row in rows}


def number(row: dict[str, str], *columns: str) -> Any:
    """The numbers in these columns."""
    values = [float(row[column]) for column in columns]
    return values[0] if len(values) == 1 else values
