"""Read a delimited table line by line; whatever is wrong is told with the line's number."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from column import Column

DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|"}
MAX_COLUMNS = 10_000
PROGRESS_EVERY_BYTES = 1_000_000

Progress = Callable[[float, str], None]


class NoTable(Exception):
    """The file is something else than a table: the analysis doesn't apply."""


class BrokenTable(Exception):
    """The file is a table with a fault; the message says in which line."""


@dataclass
class Table:
    """The columns of a table that was read to its end."""

    columns: list[Column]
    rows: int


def read_table(path: Path, delimiter: str, missing: frozenset[str], progress: Progress) -> Table:
    """Read it all; `NoTable` or `BrokenTable`."""
    with path.open("rb") as file:
        _look_at(file.read(4096))
    lines = _lines(path, progress)
    first = next(lines)
    separator = DELIMITERS.get(delimiter) or _guess(first)
    return _read(csv.reader(_chain(first, lines), delimiter=separator, strict=True), missing)


def _look_at(head: bytes) -> None:
    if not head.strip():
        raise NoTable("The file is empty: there is nothing to summarise.")
    if b"\0" in head:
        raise NoTable("The file is binary, not a text table: there is nothing to summarise.")
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if start[:1] in (b"{", b"[", b"<"):
        raise NoTable("The file looks like JSON or XML, not like a table: there is nothing to summarise.")


def _lines(path: Path, progress: Progress) -> Iterator[str]:
    size, done, told = path.stat().st_size, 0, 0
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            done += len(raw)
            if done - told >= PROGRESS_EVERY_BYTES:
                told = done
                progress(0.9 * done / size, f"line {number}")
            yield _decoded(raw, number)


def _decoded(raw: bytes, number: int) -> str:
    try:
        text = raw.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError:
        raise BrokenTable(f"Line {number} is not UTF-8: save the table as UTF-8.") from None
    if "\0" in text:
        raise BrokenTable(f"Line {number} has a NUL character: export the table again.")
    return text


def _guess(first: str) -> str:
    counts = {separator: first.count(separator) for separator in DELIMITERS.values()}
    best = max(counts, key=lambda separator: counts[separator])
    return best if counts[best] else ","


def _chain(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest


def _read(reader: Any, missing: frozenset[str]) -> Table:
    columns: list[Column] | None = None
    rows = begin = 0
    try:
        for fields in reader:
            begin, line = reader.line_num, begin + 1  # a row of quoted fields may take several lines
            if columns is None:
                columns = _header(fields)
            elif fields:  # an empty line is no row
                rows += 1
                _check(fields, columns, line)
                for column, field in zip(columns, fields, strict=True):
                    column.add(field, field == "" or field in missing)
    except csv.Error as error:
        raise BrokenTable(f"Line {begin + 1}: {_told(error)}") from None
    return Table(columns or [], rows)


def _told(error: csv.Error) -> str:
    if "unexpected end" in str(error):
        return "a quoted field begins here and never ends: add the missing quote."
    return f"{error}: correct the quotes."


def _header(names: list[str]) -> list[Column]:
    if len(names) > MAX_COLUMNS:
        raise BrokenTable(f"Line 1: {len(names)} columns; {MAX_COLUMNS} are allowed.")
    if not any(name.strip() for name in names):
        raise BrokenTable("Line 1 has no column names: put them into the first line.")
    return [Column(name.strip() or f"column {number}") for number, name in enumerate(names, start=1)]


def _check(fields: list[str], columns: list[Column], line: int) -> None:
    if len(fields) != len(columns):
        raise BrokenTable(
            f"Line {line} has {len(fields)} fields, but the first line names {len(columns)} columns: "
            "correct that line (a delimiter inside a text needs quotes)."
        )
