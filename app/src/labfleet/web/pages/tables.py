"""A table of a result file: read, sorted, page by page."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass

ROWS = 100
COLUMNS = 60
CELL = 300


@dataclass(frozen=True)
class Sheet:
    """One page of a table. `more` says what of the file is not in it; `page` counts from 1."""

    head: list[str]
    rows: list[list[str]]
    numeric: list[bool]
    page: int
    pages: int
    total: int
    more: str = ""
    sortable: bool = True


def separator_of(name: str, media_type: str) -> str | None:
    """What stands between a table's cells, by the name of its file; None for what is no such table."""
    if media_type == "text/csv" or name.endswith(".csv"):
        return ","
    is_tabbed = media_type == "text/tab-separated-values" or name.endswith((".tsv", ".tab", ".txt"))
    return "\t" if is_tabbed else None


def read_rows(text: str, separator: str, *, whole: bool = True) -> list[list[str]] | None:
    """All lines, the head first; None for a text that is no table. A cut file loses its last line."""
    lines = text.splitlines(keepends=True)
    try:
        rows = [row for row in csv.reader(lines if whole else lines[:-1], delimiter=separator) if row]
    except csv.Error:
        return None
    return rows or None


def sheet(
    rows: Sequence[Sequence[str]], sort: int | None, page: int, *, down: bool = False, whole: bool = True
) -> Sheet:
    """The page of the table that was asked for, sorted by a column (numbers by their value, gaps last).

    A table that was not read as a whole is not sorted: its order would not be that of the file.
    """
    head, *body = rows
    if whole and sort is not None and 0 <= sort < len(head):
        body = _sorted(body, sort, down=down)
    pages = max(1, math.ceil(len(body) / ROWS))
    page = min(max(page, 1), pages)
    cut = [[cell[:CELL] for cell in row[:COLUMNS]] for row in body[(page - 1) * ROWS : page * ROWS]]
    told = []
    if len(head) > COLUMNS:
        told.append(f"the first {COLUMNS} of {len(head)} columns")
    if not whole:
        told.append(f"the first {len(body)} rows of a file that is too large to be shown as a whole")
    return Sheet(
        head=[cell[:CELL] for cell in head[:COLUMNS]],
        rows=cut,
        numeric=[_is_numeric(cut, column) for column in range(min(len(head), COLUMNS))],
        page=page,
        pages=pages,
        total=len(body),
        more=f"These are {' and '.join(told)}; the download has all of it." if told else "",
        sortable=whole,
    )


def number(text: str) -> float | None:
    """The finite number that a cell holds, if it does."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _sorted(body: Sequence[Sequence[str]], column: int, *, down: bool) -> list[Sequence[str]]:
    def cell(row: Sequence[str]) -> str:
        return row[column].strip() if column < len(row) else ""

    def rank(row: Sequence[str]) -> tuple[int, float, str]:
        value = number(cell(row))
        return (1, 0, cell(row).casefold()) if value is None else (0, value, "")

    filled = [row for row in body if cell(row)]
    return sorted(filled, key=rank, reverse=down) + [row for row in body if not cell(row)]


def _is_numeric(rows: Sequence[Sequence[str]], column: int) -> bool:
    cells = [row[column] for row in rows if column < len(row) and row[column].strip()]
    return bool(cells) and all(number(cell) is not None for cell in cells)
