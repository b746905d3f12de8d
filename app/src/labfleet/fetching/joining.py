# ruff: noqa: S608 - there are no placeholders for names; `as_name` and `as_text` quote what stands in a statement
"""Several files that are one table: the rows of one after those of another, and from which file each came."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb

from labfleet.datasets.profile import (
    INTEGERS,
    NUMBERS,
    Bounds,
    Unreadable,
    as_name,
    as_text,
    columns_of,
    loaded,
    plain,
    reading,
)
from labfleet.datasets.tables import Format

ORIGIN = "from_object"
"""The column that says from which file a row came."""
REJECTED_NAMED = 3
COLUMNS_NAMED = 10
UNTYPED = (Format.TEXT, Format.EXCEL)
"""Formats of which the types of columns are found out, and may be found otherwise in another file."""
Kinds = dict[str, str]


@dataclass(frozen=True)
class Part:
    """One of the files, and what it is called where it came from."""

    path: Path
    name: str
    format: Format


@dataclass
class _Loaded:
    """A file as a table of Parquet; a column without a value has no kind."""

    part: Part
    table: Path
    names: list[str]
    kinds: Kinds
    notes: list[str] = field(default_factory=list)


@contextmanager
def joined(
    parts: Sequence[Part], work: Path, bounds: Bounds, sheet: str | None = None
) -> Iterator[tuple[duckdb.DuckDBPyConnection, dict[str, Any]]]:
    """As `profile.loaded`, of all of these: rows in the order of the files, with the column `from_object`.

    All have the same columns, in any order. A column that is of several kinds is a number where all of them
    are numbers, else text, as it stands in the files.
    """
    each = [_load(part, work / f"part-{number}", bounds, sheet) for number, part in enumerate(parts)]
    for one in each:
        _check_names(one, each[0])
    kinds, notes = _kinds(each)
    texts = {name for name, kind in kinds.items() if kind == "VARCHAR"}
    for number, one in enumerate(each):
        stands = {name for name in texts if one.kinds.get(name, "VARCHAR") != "VARCHAR"}
        if stands and one.part.format in UNTYPED:
            each[number] = _load(one.part, work / f"part-{number}", bounds, sheet, stands)
    with reading(work, work, bounds) as duck:
        described = ", ".join(f"{as_name(name)} {kind}" for name, kind in kinds.items())
        duck.execute(f"CREATE TABLE t ({described}, {as_name(ORIGIN)} VARCHAR)")
        for one in each:
            cells = ", ".join(f"CAST({as_name(name)} AS {kind})" for name, kind in kinds.items())
            source = as_text(str(one.table))
            duck.execute(f"INSERT INTO t SELECT {cells}, ? FROM read_parquet({source})", [one.part.name])
            one.table.unlink()
        yield duck, {"notes": [note for one in each for note in one.notes] + notes}


def _load(
    part: Part, work: Path, bounds: Bounds, sheet: str | None, texts: set[str] | None = None
) -> _Loaded:
    work.mkdir()
    table = work.with_suffix(".parquet")
    try:
        with loaded(part.path, part.format, work, bounds, sheet, texts=texts or ()) as (duck, told):
            complete(told)
            described = columns_of(duck, "t")
            counts = ", ".join(f"count({as_name(name)})" for name, _ in described)
            given = duck.execute(f"SELECT {counts} FROM t").fetchone() or ()
            duck.execute(f"COPY t TO {as_text(str(table))} (FORMAT parquet)")
    except Unreadable as error:
        raise Unreadable(f"{part.name}: {error}") from None
    finally:
        shutil.rmtree(work)
    kinds = {name: kind for (name, kind), count in zip(described, given, strict=True) if count}
    notes = [f"{part.name}: {note}" for note in told.get("notes", [])]
    return _Loaded(part, table, [name for name, _ in described], kinds, notes)


def _check_names(one: _Loaded, first: _Loaded) -> None:
    if ORIGIN in one.names:
        raise Unreadable(
            f"{one.part.name} has a column '{ORIGIN}' itself, which is to say where rows come from."
        )
    lacks = [name for name in first.names if name not in one.names]
    besides = [name for name in one.names if name not in first.names]
    if not lacks and not besides:
        return
    said = [
        f"{what} {', '.join(map(repr, names[:COLUMNS_NAMED]))}"
        for what, names in (("lacks", lacks), ("has besides", besides))
        if names
    ]
    raise Unreadable(
        f"{one.part.name} has other columns than {first.part.name}: it {' and '.join(said)}. What is read "
        "together has the same columns."
    )


def _kinds(each: Sequence[_Loaded]) -> tuple[Kinds, list[str]]:
    """What each column is in the whole, and what is to be told of it."""
    kinds: Kinds = {}
    notes = []
    for name in each[0].names:
        found = {one.kinds[name]: one.part.name for one in reversed(each) if name in one.kinds}
        kinds[name] = _common(list(found))
        if kinds[name] == "VARCHAR" and len(found) > 1:
            told = ", ".join(f"{plain(kind)} in {where}" for kind, where in reversed(found.items()))
            notes.append(f"Column '{name}' is {told}; so it is text.")
    return kinds, notes


def _common(kinds: Sequence[str]) -> str:
    if len(kinds) < 2:
        return kinds[0] if kinds else "VARCHAR"
    if any(kind.endswith("]") or not kind.startswith(NUMBERS) for kind in kinds):
        return "VARCHAR"
    return "BIGINT" if all(kind.startswith(INTEGERS) for kind in kinds) else "DOUBLE"


def complete(told: Mapping[str, Any]) -> None:
    """A table of which lines can't be read is not loaded: half of it would look like all of it."""
    rejected = told.get("rejected")
    if not rejected or not rejected["count"]:
        return
    lines = [
        f"line {each['line']:,}{_column(each)}: {each['message']}"
        for each in rejected["shown"][:REJECTED_NAMED]
    ]
    number = f"{rejected['count']:,}{' or more' if rejected['more'] else ''}"
    noun = "line is" if rejected["count"] == 1 else "lines are"
    raise Unreadable(f"{number} {noun} not as it should be: {'; '.join(lines)}.")


def _column(fault: Mapping[str, Any]) -> str:
    return f", column '{fault['column']}'" if fault["column"] else ""
