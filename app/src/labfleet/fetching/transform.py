# ruff: noqa: S608 - there are no placeholders for names; `as_name` and `as_text` quote what stands in a statement
"""What is made of a table on its way: columns renamed, chosen and cast, rows filtered, long to wide and back.

A step is a mapping of one verb to what it takes, as `labfleet.sources.spec` has checked it. Each one makes a
table of the one before; `Unreadable` says which step doesn't fit the table, and why.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import duckdb

from labfleet.datasets.profile import Unreadable, as_name, as_text, columns_of

Duck = duckdb.DuckDBPyConnection
Step = Mapping[str, Any]
WIDEST = 5000
"""So many columns may come from the values of one."""
TYPES = {
    "text": "VARCHAR",
    "whole number": "BIGINT",
    "number": "DOUBLE",
    "yes or no": "BOOLEAN",
    "date": "DATE",
    "date and time": "TIMESTAMP",
}
COMPARISONS = {"=": "=", "!=": "<>", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
WITHOUT_VALUE = frozenset({"missing", "given"})


def transform(duck: Duck, steps: Sequence[Step]) -> str:
    """Apply the steps to the table `t`; the name of the table that came out."""
    table = "t"
    for number, step in enumerate(steps, start=1):
        ((verb, what),) = step.items()
        following = f"t{number}"
        try:
            duck.execute(f"CREATE TABLE {following} AS {_VERBS[verb](duck, table, what)}")
        except _Misfit as error:
            raise Unreadable(f"Step {number} ({verb}): {error}") from None
        except duckdb.ConversionException as error:
            first = str(error).split("\n", 1)[0].removeprefix("Conversion Error: ")
            raise Unreadable(f"Step {number} ({verb}): {first}") from None
        duck.execute(f"DROP TABLE {table}")
        table = following
    return table


class _Misfit(Exception):
    """The step doesn't fit the table."""


def _columns(duck: Duck, table: str) -> dict[str, str]:
    return dict(columns_of(duck, table))


def _wanted(duck: Duck, table: str, names: Sequence[str]) -> dict[str, str]:
    """The table's columns, with all of these among them."""
    columns = _columns(duck, table)
    unknown = [each for each in names if each not in columns]
    if unknown:
        has = ", ".join(list(columns)[:30])
        raise _Misfit(f"the table has no column {', '.join(map(repr, unknown))}; it has: {has}.")
    return columns


def _rename(duck: Duck, table: str, what: Mapping[str, str]) -> str:
    columns = _wanted(duck, table, list(what))
    after = [what.get(each, each) for each in columns]
    twice = sorted({each for each in after if after.count(each) > 1})
    if twice:
        raise _Misfit(f"there would be several columns {', '.join(map(repr, twice))}.")
    parts = [f"{as_name(old)} AS {as_name(new)}" for old, new in zip(columns, after, strict=True)]
    return f"SELECT {', '.join(parts)} FROM {table}"


def _keep(duck: Duck, table: str, what: Sequence[str]) -> str:
    _wanted(duck, table, what)
    return f"SELECT {', '.join(map(as_name, dict.fromkeys(what)))} FROM {table}"


def _drop(duck: Duck, table: str, what: Sequence[str]) -> str:
    left = [each for each in _wanted(duck, table, what) if each not in what]
    if not left:
        raise _Misfit("no column would be left.")
    return f"SELECT {', '.join(map(as_name, left))} FROM {table}"


def _cast(duck: Duck, table: str, what: Mapping[str, str]) -> str:
    columns = _wanted(duck, table, list(what))
    parts = [
        f"CAST({as_name(each)} AS {TYPES[what[each]]}) AS {as_name(each)}" if each in what else as_name(each)
        for each in columns
    ]
    return f"SELECT {', '.join(parts)} FROM {table}"


def _filter(duck: Duck, table: str, what: Mapping[str, Any]) -> str:
    column, comparison, value = what["column"], what["is"], what.get("value")
    kind = _wanted(duck, table, [column])[column]
    left = as_name(column)
    if comparison in WITHOUT_VALUE:
        condition = f"{left} IS {'' if comparison == 'missing' else 'NOT '}NULL"
    elif comparison == "contains":
        condition = f"contains(CAST({left} AS VARCHAR), {as_text(str(value))})"
    elif comparison == "one of":
        values = ", ".join(_literal(each, kind) for each in value or [])
        condition = f"{left} IN ({values})"
    else:
        condition = f"{left} {COMPARISONS[comparison]} {_literal(value, kind)}"
    return f"SELECT * FROM {table} WHERE {condition}"


def _literal(value: Any, kind: str) -> str:
    """A value of a filter as one of the column's type."""
    shown = str(value).lower() if isinstance(value, bool) else str(value)
    return f"CAST({as_text(shown)} AS {kind})"


def _long(duck: Duck, table: str, what: Mapping[str, Any]) -> str:
    keep, names, values = what["keep"], what["names"], what["values"]
    columns = _wanted(duck, table, keep)
    rest = [each for each in columns if each not in keep]
    if not rest:
        raise _Misfit("no column is left to go into rows.")
    if {names, values} & set(keep) or names == values:
        raise _Misfit(f"the names '{names}' and '{values}' are taken.")
    kinds = {columns[each] for each in rest}
    numbers = all(kind in {"BIGINT", "INTEGER", "DOUBLE", "FLOAT"} for kind in kinds)
    kind = kinds.pop() if len(kinds) == 1 else "DOUBLE" if numbers else "VARCHAR"
    cast = ", ".join(
        [*map(as_name, keep), *(f"CAST({as_name(each)} AS {kind}) AS {as_name(each)}" for each in rest)]
    )
    return (
        f"SELECT * FROM (SELECT {cast} FROM {table}) "
        f"UNPIVOT ({as_name(values)} FOR {as_name(names)} IN ({', '.join(map(as_name, rest))}))"
    )


def _wide(duck: Duck, table: str, what: Mapping[str, Any]) -> str:
    names, values = what["names"], what["values"]
    columns = _wanted(duck, table, [names, values])
    keys = [each for each in columns if each not in {names, values}]
    found = duck.execute(
        f"SELECT DISTINCT CAST({as_name(names)} AS VARCHAR) FROM {table} "
        f"WHERE {as_name(names)} IS NOT NULL ORDER BY 1 LIMIT {WIDEST + 1}"
    ).fetchall()
    if len(found) > WIDEST:
        raise _Misfit(f"'{names}' has more than {WIDEST:,} different values: too many columns.")
    taken = [value for (value,) in found if value in keys]
    if taken:
        raise _Misfit(f"there is a column '{taken[0]}' already.")
    grouped = ", ".join([*map(as_name, keys), as_name(names)])
    twice = duck.execute(f"SELECT {grouped} FROM {table} GROUP BY {grouped} HAVING count(*) > 1 LIMIT 1")
    if (row := twice.fetchone()) is not None:
        place = ", ".join(f"{each} = {cell}" for each, cell in zip([*keys, names], row, strict=True))
        raise _Misfit(f"there are several values for {place}.")
    parts = [
        f"max({as_name(values)}) FILTER (CAST({as_name(names)} AS VARCHAR) = {as_text(value)}) "
        f"AS {as_name(value)}"
        for (value,) in found
    ]
    by = ", ".join(map(as_name, keys))
    chosen = ", ".join([*map(as_name, keys), *parts])
    if not chosen:
        raise _Misfit("nothing would be left.")
    return f"SELECT {chosen} FROM {table}" + (f" GROUP BY {by} ORDER BY {by}" if keys else "")


_VERBS: dict[str, Callable[[Duck, str, Any], str]] = {
    "rename": _rename,
    "keep": _keep,
    "drop": _drop,
    "cast": _cast,
    "filter": _filter,
    "long": _long,
    "wide": _wide,
}
