"""States that a run begins from, and those it ends with: tables of one form, so that one run goes on from
another."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import myokit
from lib.cellml import MAX_NAMED, unit_of
from lib.equations import Equations, Values
from lib.talk import Broken, Inapplicable, optional_input, write_csv

SLOT = "states"
HEAD = ("state", "value", "unit")
MAX_BYTES = 1024 * 1024
_SEPARATORS = ",;\t"


def begin_from_input(equations: Equations) -> None:
    """Let the equations start from the states of the input, if there is one; else from the model's own."""
    path = optional_input(SLOT)
    if path is None:
        return
    given = _read(path)
    names = [state.qname() for state in equations.states]
    for found, known, fault in (
        (given, names, "The model has no state {}; the table of states is another model's"),
        (names, given, "The table of states lacks {}"),
    ):
        besides = [name for name in found if name not in known]
        if besides:
            raise Inapplicable(f"{fault.format(_listed(besides))}. The model's states are {_listed(names)}.")
    for state in equations.states:
        _check_unit(state, given[state.qname()][1])
    equations.start = [given[name][0] for name in names]
    print(f"It begins from the {len(names)} states of the table.")


def write_states(
    equations: Equations, values: Values, more: Mapping[str, Iterable[Any]] | None = None
) -> None:
    """states.csv: each state's value with all its digits, so that nothing is lost from run to run; `more`:
    other columns."""
    columns = more or {}
    rows = zip(
        (state.qname() for state in equations.states),
        (repr(float(value)) for value in values),
        (unit_of(state) for state in equations.states),
        *columns.values(),
        strict=True,
    )
    write_csv("states.csv", (*HEAD, *columns), rows)


def _read(path: Path) -> dict[str, tuple[float, str]]:
    """Value and unit of each state in the table; `Broken` with the line of a fault."""
    if path.stat().st_size > MAX_BYTES:
        raise Broken(f"The table of states is larger than {MAX_BYTES // 1024} KiB, which no such table is.")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise Broken("The table of states is no text (UTF-8).") from None
    first = lines[0] if lines else ""
    rows = csv.reader(lines, delimiter=max(_SEPARATORS, key=first.count))
    head = [name.strip().lower() for name in next(rows, [])]
    if not {"state", "value"} <= set(head):
        raise Broken(
            "Line 1: the table of states needs the columns 'state' and 'value' (and 'unit', if you like), as "
            "states.csv of another run has them."
        )
    found: dict[str, tuple[float, str]] = {}
    for row in rows:
        if not any(cell.strip() for cell in row):
            continue
        where = f"Line {rows.line_num} of the table of states"
        if len(row) != len(head):
            raise Broken(f"{where} has {len(row)} fields, the first one {len(head)}.")
        cells = dict(zip(head, (cell.strip() for cell in row), strict=True))
        if cells["state"] in found:
            raise Broken(f"{where}: '{cells['state']}' stands twice.")
        found[cells["state"]] = (_number(cells["value"], where), cells.get("unit", ""))
    return found


def _number(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise Broken(f"{where}: '{text}' is no number.")
    return value


def _check_unit(state: Any, unit: str) -> None:
    """Nothing is converted: a unit that is another one tells that the table is not what it seems."""
    if not unit or unit == unit_of(state):
        return
    try:
        same = state.unit() is not None and myokit.parse_unit(unit) == state.unit()
    except myokit.MyokitError:
        same = False
    if not same:
        expected = unit_of(state) or "none"
        raise Inapplicable(f"The table of states has {state.qname()} in {unit}, the model in {expected}.")


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:MAX_NAMED])
    return f"{shown} and {len(names) - MAX_NAMED} others" if len(names) > MAX_NAMED else shown
