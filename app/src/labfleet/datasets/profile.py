# ruff: noqa: S608 - there are no placeholders for names; `as_name` and `as_text` quote what stands in a statement
"""What a table has in it: columns and their types, first rows, missing values, what its values are like.

Everything is counted by DuckDB, in a file of its own below the directory that is given, with bounded memory.
What comes out is plain JSON; `Unreadable` says in a sentence what is wrong with the file, and where.
"""

from __future__ import annotations

import csv
import datetime
import math
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import python_calamine as calamine

from labfleet.datasets.encodings import PIECE, NoText, as_utf8, recognise
from labfleet.datasets.tables import Format

Json = dict[str, Any]

BINS = 20
TOP = 5
CELL = 120
REJECTED_KEPT = 10_000
REJECTED_SHOWN = 20
SHEETS_SHOWN = 50
MOST_LINE_BYTES = 16 * 1024**2
# How often a column that was taken for something else is read again as text.
TRIES = 4
INTEGERS = (
    "TINYINT",
    "SMALLINT",
    "INTEGER",
    "BIGINT",
    "HUGEINT",
    "UTINYINT",
    "USMALLINT",
    "UINTEGER",
    "UBIGINT",
)
NUMBERS = (*INTEGERS, "UHUGEINT", "FLOAT", "DOUBLE", "DECIMAL")
_TIMES = ("DATE", "TIME", "TIMESTAMP")
_SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar", " ": "space"}


class Unreadable(Exception):
    """The file is no table of its format; the message is for its owner."""


@dataclass(frozen=True)
class Bounds:
    """How much may be used, and how much is shown."""

    memory_bytes: int
    rows: int
    columns: int


def profile(path: Path, form: Format, work: Path, bounds: Bounds) -> Json:
    """Look through the table at `path`; files on the way lie in `work`."""
    with loaded(path, form, work, bounds) as (duck, told):
        return _counted(duck, form, told, bounds)


@contextmanager
def loaded(
    path: Path,
    form: Format,
    work: Path,
    bounds: Bounds,
    sheet: str | None = None,
    *,
    texts: Collection[str] = (),
) -> Iterator[tuple[duckdb.DuckDBPyConnection, Json]]:
    """The table at `path` as DuckDB's table `t`, and what is told of how it was read. Of a workbook it is the
    first sheet, or the one of that name. The columns `texts` of what has no types of its own are taken as
    they stand there. What DuckDB says against it is `Unreadable`, also inside."""
    with reading(path, work, bounds) as duck:
        if form is Format.EXCEL:
            yield duck, _read_excel(duck, path, work, bounds, sheet, texts=texts)
        elif form is Format.TEXT:
            yield duck, _read_text(duck, path, work, bounds, texts)
        else:
            yield duck, _READERS[form](duck, path, bounds)


@contextmanager
def typed(
    path: Path, columns: Mapping[str, str], work: Path, bounds: Bounds
) -> Iterator[tuple[duckdb.DuckDBPyConnection, Json]]:
    """As `loaded`, of a text that we have written: with a header, every cell in quotation marks but those
    without a value. `columns` are DuckDB's types by their names."""
    wanted = ", ".join(f"{as_text(name)}: {as_text(kind)}" for name, kind in columns.items())
    with reading(path, work, bounds) as duck:
        duck.execute(
            f"CREATE TABLE t AS SELECT * FROM read_csv({as_text(str(path))}, auto_detect = false, "
            f"header = true, delim = ',', quote = '\"', escape = '\"', nullstr = '', "
            f"allow_quoted_nulls = false, max_line_size = {MOST_LINE_BYTES}, columns = {{{wanted}}})"
        )
        yield duck, {}


@contextmanager
def reading(path: Path, work: Path, bounds: Bounds) -> Iterator[duckdb.DuckDBPyConnection]:
    """DuckDB while the table at `path` is read: what it says against that is `Unreadable`."""
    try:
        with _connect(work, bounds) as duck:
            yield duck
    except duckdb.OutOfMemoryException:
        raise Unreadable("The table needs more memory than there is for looking through it.") from None
    except duckdb.Error as error:
        raise Unreadable(_sentence(error, path)) from None


def _counted(duck: duckdb.DuckDBPyConnection, form: Format, told: Json, bounds: Bounds) -> Json:
    rows = single(duck, "SELECT count(*) FROM t")
    described = columns_of(duck, "t")
    columns = [_column(duck, name, kind, rows) for name, kind in described]
    # As text: what stands in a cell is shown, and not what Python makes of it.
    cells = ", ".join(f"CAST({as_name(name)} AS VARCHAR)" for name, _ in described)
    head = duck.execute(f"SELECT {cells} FROM t LIMIT ?", [bounds.rows]).fetchall()
    return {
        "format": form.value,
        "rows": rows,
        "columns_total": len(columns),
        **told,
        "columns": columns,
        "head": [[_cell(value) for value in row] for row in head],
    }


def _connect(work: Path, bounds: Bounds) -> duckdb.DuckDBPyConnection:
    settings: dict[str, Any] = {
        "memory_limit": f"{bounds.memory_bytes}B",
        "threads": 1,
        "temp_directory": str(work / "spill"),
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "allow_community_extensions": False,
        "preserve_insertion_order": True,
    }
    duck = duckdb.connect(str(work / "table.duckdb"), config=settings)
    duck.execute("SET TimeZone = 'UTC'")
    return duck


def _read_text(
    duck: duckdb.DuckDBPyConnection, path: Path, work: Path, bounds: Bounds, texts: Collection[str]
) -> Json:
    if path.stat().st_size == 0:
        raise Unreadable("The file is empty.")
    try:
        found = recognise(path)
    except NoText as error:
        raise Unreadable(f"{error} Is it a table at all?") from None
    rejected = []
    if found.encoding == "mixed" and found.first_bad and found.first_good:
        message = (
            f"This is not UTF-8, though line {found.first_good.line:,} is: two encodings in one file. "
            "Such lines were read as Windows-1252."
        )
        rejected.append(
            {"line": found.first_bad.line, "byte": found.first_bad.byte, "column": None, "message": message}
        )
    if found.encoding != "utf-8":
        as_utf8(path, work / "utf8", found.encoding)
        path = work / "utf8"
    told = _read_csv(duck, path, bounds, texts)
    if found.encoding != "utf-8":
        for each in told["rejected"]["shown"]:
            each["byte"] = None  # of what was read, which is not what was sent
    told["rejected"]["count"] += len(rejected)
    told["rejected"]["shown"] = (rejected + told["rejected"]["shown"])[:REJECTED_SHOWN]
    return {"encoding": found.encoding, **told}


def _read_csv(duck: duckdb.DuckDBPyConnection, path: Path, bounds: Bounds, texts: Collection[str]) -> Json:
    separator, quote, header, columns, skip, comment = _sniffed(duck, path)
    names = [column["name"] for column in columns]
    types = {column["name"]: "VARCHAR" if column["name"] in texts else column["type"] for column in columns}
    reading = {
        "delim": separator,
        # A file whose first lines have no quotes may have them further down.
        "quote": '"' if quote == "(empty)" else quote,
        "header": bool(header),
        "skip": skip,
        "comment": "" if comment == "(empty)" else comment,
    }
    notes = [f"The table begins in line {skip + 1:,}; what stands before it is left out."] if skip else []
    for _ in range(TRIES):
        _load_csv(duck, path, reading, types, names[: bounds.columns])
        changed = _not_as_sniffed(duck, types)
        if not changed:
            break
        notes += changed
    shown = duck.execute(
        "SELECT line, min(byte_position), min(column_name), min(CAST(error_type AS VARCHAR)),"
        " min(error_message) FROM reject_errors GROUP BY line ORDER BY line LIMIT ?",
        [REJECTED_SHOWN],
    ).fetchall()
    count = single(duck, "SELECT count(DISTINCT line) FROM reject_errors")
    return {
        "separator": separator,
        "separator_name": _SEPARATORS.get(separator, separator),
        "header": bool(header),
        "columns_total": len(names),
        "notes": notes,
        "rejected": {
            "count": count,
            "more": single(duck, "SELECT count(*) FROM reject_errors") >= REJECTED_KEPT,
            "lost": _lost(duck, path, count + bool(header) + skip),
            "shown": [
                {
                    "line": line,
                    "byte": byte - 1 if byte else None,
                    "column": column and _short(column),
                    "message": _fault(kind, message),
                }
                for line, byte, column, kind, message in shown
            ],
        },
    }


def _lost(duck: duckdb.DuckDBPyConnection, path: Path, besides: int) -> int:
    """About how many lines were taken for a part of a value whose quote is never closed."""
    if not single(duck, "SELECT count(*) FROM reject_errors WHERE error_type = 'UNQUOTED VALUE'"):
        return 0
    with path.open("rb") as file:
        lines = sum(piece.count(b"\n") for piece in iter(lambda: file.read(PIECE), b""))
    return max(lines - single(duck, "SELECT count(*) FROM t") - besides, 0)


def _sniffed(duck: duckdb.DuckDBPyConnection, path: Path) -> tuple[Any, ...]:
    """Separator, quote, header, columns, how many lines come before the table, what begins a comment.

    The usual quotes first: else one that is broken looks like none.
    """
    found = None
    for usual in ("quote = '\"', escape = '\"', ", ""):
        statement = (
            "SELECT Delimiter, Quote, HasHeader, Columns, SkipRows, Comment "
            f"FROM sniff_csv(?, {usual}ignore_errors = true)"
        )
        try:
            found = duck.execute(statement, [str(path)]).fetchone()
            break
        except duckdb.InvalidInputException:
            continue
    if found is None:
        raise Unreadable("It can't be told where one column ends and the next begins.")
    return found


def _load_csv(
    duck: duckdb.DuckDBPyConnection, path: Path, reading: Json, types: dict[str, str], names: list[str]
) -> None:
    for table in ("t", "reject_errors", "reject_scans"):
        duck.execute(f"DROP TABLE IF EXISTS {table}")
    described = ", ".join(f"{as_text(name)}: {as_text(kind)}" for name, kind in types.items())
    wanted = ", ".join(map(as_name, names))
    duck.execute(
        f"CREATE TABLE t AS SELECT {wanted} FROM read_csv(?, auto_detect = false, delim = ?, quote = ?, "
        f"escape = ?, header = ?, skip = ?, comment = ?, columns = {{{described}}}, "
        f"null_padding = false, store_rejects = true, rejects_limit = {REJECTED_KEPT})",
        [
            str(path),
            reading["delim"],
            reading["quote"],
            reading["quote"],
            reading["header"],
            reading["skip"],
            reading["comment"],
        ],
    )


def _not_as_sniffed(duck: duckdb.DuckDBPyConnection, types: dict[str, str]) -> list[str]:
    """Columns whose later values are not what the first rows let expect become text, and are told."""
    found = duck.execute(
        "SELECT column_name, min(line) FROM reject_errors WHERE error_type = 'CAST' GROUP BY column_name"
    ).fetchall()
    notes = []
    for name, line in found:
        if types.get(name, "VARCHAR") != "VARCHAR":
            notes.append(
                f"Column '{name}' begins as {plain(types[name])}; from line {line:,} on it has other "
                "values too, so it is text."
            )
            types[name] = "VARCHAR"
    return notes


def _read_excel(
    duck: duckdb.DuckDBPyConnection,
    path: Path,
    work: Path,
    bounds: Bounds,
    wanted: str | None,
    *,
    texts: Collection[str],
) -> Json:
    try:
        with path.open("rb") as file:
            book = calamine.load_workbook(file)
            names = [sheet.name for sheet in book.sheets_metadata if str(sheet.typ).endswith("WorkSheet")]
            if not names:
                raise Unreadable("The workbook has no sheet with a table.")
            if wanted is not None and wanted not in names:
                raise Unreadable(f"The workbook has no sheet '{wanted}'; it has: {', '.join(names)}.")
            chosen = wanted or names[0]
            sheet = book.get_sheet_by_name(chosen)
            with (work / "sheet.csv").open("w", encoding="utf-8", newline="") as out:
                csv.writer(out).writerows([_excel(cell) for cell in row] for row in sheet.iter_rows())
    except (calamine.CalamineError, OSError) as error:
        raise Unreadable(f"The workbook can't be read: {_short(str(error))}.") from None
    if (work / "sheet.csv").stat().st_size == 0:
        raise Unreadable(f"The sheet '{chosen}' is empty.")
    told = _read_csv(duck, work / "sheet.csv", bounds, texts)
    for what in ("separator", "separator_name"):
        told.pop(what)
    return {**told, "sheet": chosen, "sheets": names[:SHEETS_SHOWN]}


def _excel(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value.isoformat(" ") if isinstance(value, datetime.datetime) else value


def _read_json(duck: duckdb.DuckDBPyConnection, path: Path, bounds: Bounds) -> Json:
    return _read_by(duck, f"read_json({as_text(str(path))}, maximum_object_size = 67108864)", bounds)


def _read_parquet(duck: duckdb.DuckDBPyConnection, path: Path, bounds: Bounds) -> Json:
    return _read_by(duck, f"read_parquet({as_text(str(path))})", bounds)


def _read_by(duck: duckdb.DuckDBPyConnection, source: str, bounds: Bounds) -> Json:
    names = [name for name, _ in columns_of(duck, source)]
    wanted = ", ".join(map(as_name, names[: bounds.columns]))
    duck.execute(f"CREATE TABLE t AS SELECT {wanted} FROM {source}")
    return {"columns_total": len(names)}


_READERS = {
    Format.JSON: _read_json,
    Format.PARQUET: _read_parquet,
}


def columns_of(duck: duckdb.DuckDBPyConnection, source: str) -> list[tuple[str, str]]:
    """The columns of a table (or of what can stand for one), with their types."""
    return [(row[0], row[1]) for row in duck.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()]


def _column(duck: duckdb.DuckDBPyConnection, name: str, kind: str, rows: int) -> Json:
    column = as_name(name)
    given, distinct = duck.execute(
        f"SELECT count({column}), approx_count_distinct({column}) FROM t"
    ).fetchone() or (0, 0)
    told: Json = {
        "name": _short(name),
        "type": plain(kind),
        "missing": rows - given,
        "distinct": min(distinct, given),
    }
    if not given:
        return told
    if kind.startswith(NUMBERS) and not kind.endswith("]"):
        return told | _numbers(duck, column)
    if kind.startswith(_TIMES) and not kind.endswith("]"):
        low, high = duck.execute(
            f"SELECT CAST(min({column}) AS VARCHAR), CAST(max({column}) AS VARCHAR) FROM t"
        ).fetchone() or (None, None)
        return told | {"least": _cell(low), "greatest": _cell(high)}
    return told | {"top": _top(duck, column)}


def _numbers(duck: duckdb.DuckDBPyConnection, column: str) -> Json:
    finite = f"FROM (SELECT CAST({column} AS DOUBLE) AS x FROM t) WHERE isfinite(x)"
    low, high, mean, median = (
        duck.execute(f"SELECT min(x), max(x), avg(x), approx_quantile(x, 0.5) {finite}").fetchone()
        or (None,) * 4
    )
    if low is None:
        return {}
    told = {"least": low, "greatest": high, "mean": mean if math.isfinite(mean) else None, "median": median}
    width = (high - low) / BINS
    if not (width > 0 and math.isfinite(width)):
        return told
    counts = [0] * BINS
    found = duck.execute(
        f"SELECT least(CAST(floor((x - ?) / ?) AS BIGINT), {BINS - 1}), count(*) {finite} GROUP BY 1",
        [low, width],
    ).fetchall()
    for number, count in found:
        counts[number] = count
    return told | {"histogram": counts}


def _top(duck: duckdb.DuckDBPyConnection, column: str) -> list[Json]:
    found = duck.execute(
        f"SELECT x, count(*) AS n FROM (SELECT CAST({column} AS VARCHAR) AS x FROM t) WHERE x IS NOT NULL"
        f" GROUP BY x ORDER BY n DESC, x LIMIT {TOP}"
    ).fetchall()
    return [{"value": _short(value), "count": count} for value, count in found]


def single(duck: duckdb.DuckDBPyConnection, statement: str) -> int:
    """The one number that a statement gives."""
    row = duck.execute(statement).fetchone()
    return int(row[0]) if row else 0


def as_name(name: str) -> str:
    """The name of a table or column, as it stands in a statement."""
    return '"' + name.replace('"', '""') + '"'


def as_text(text: str) -> str:
    """A text, as it stands in a statement."""
    return "'" + text.replace("'", "''") + "'"


def plain(kind: str) -> str:
    """A type in plain words."""
    if kind.endswith("]"):
        return "list"
    if kind.startswith(INTEGERS):
        return "whole number"
    if kind.startswith(NUMBERS):
        return "number"
    words = {
        '"NULL"': "nothing",
        "VARCHAR": "text",
        "BOOLEAN": "yes or no",
        "DATE": "date",
        "TIME": "time of day",
    }
    return words.get(kind.upper()) or (
        "date and time" if kind.startswith("TIMESTAMP") else kind.split("(", maxsplit=1)[0].lower()
    )


def _cell(value: Any) -> str | None:
    return None if value is None else _short(str(value))


def _short(text: str) -> str:
    text = text.replace("\0", "�")
    return text if len(text) <= CELL else text[: CELL - 1] + "…"


_FAULTS = {
    "UNQUOTED VALUE": "a quote is opened and not closed as it should be",
    "MISSING COLUMNS": "fewer columns than the first lines have",
    "TOO MANY COLUMNS": "more columns than the first lines have",
    "LINE SIZE OVER MAXIMUM": "the line is too long",
    "INVALID ENCODING": "characters that are not UTF-8",
    "INVALID STATE": "it can't be read with these quotes",
}


def _fault(kind: str, message: str) -> str:
    return _FAULTS.get(kind) or _short(message.splitlines()[0])


def _sentence(error: duckdb.Error, path: Path) -> str:
    """The first line of what DuckDB says, without its prefix and without where our file lies."""
    first = re.sub(r"^[A-Z][\w ]*Error: ", "", str(error).split("\n", 1)[0])
    for quote in ('"', "'"):
        first = first.replace(f"file {quote}{path}{quote}", "the file")
    first = first.replace(str(path), "the file")
    return _short(first.strip())
