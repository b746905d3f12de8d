"""Tables of every format become Parquet, and steps change them on their way."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
import workbooks

from labfleet.datasets.profile import Unreadable
from labfleet.fetching.convert import RESULT, convert

TABLE = "id,age,name,when,a,b\n1,17,Ann,2024-01-02,1.5,2\n2,40,,2024-05-06,2.5,3\n3,41,Bob,2024-07-08,3.5,4\n"
Rows = list[tuple[Any, ...]]


def made(
    tmp_path: Path,
    content: bytes | str = TABLE,
    *,
    steps: list[dict[str, Any]] | None = None,
    form: str = "text",
    sheet: str | None = None,
) -> tuple[list[str], Rows]:
    """Columns and rows of what comes out."""
    path = tmp_path / "in"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    asked = {"path": str(path), "format": form, "sheet": sheet, "steps": steps or [], "work": str(tmp_path)}
    told = convert(asked | {"memory_bytes": 200 * 1024**2})
    found = duckdb.connect().execute(f"SELECT * FROM read_parquet('{tmp_path / RESULT}')")
    columns, rows = [each[0] for each in found.description], found.fetchall()
    assert (told["rows"], told["columns"]) == (len(rows), len(columns))
    return columns, rows


def test_formats(tmp_path: Path) -> None:
    assert made(tmp_path, "x;y\n1;ä\n".encode("cp1252")) == (["x", "y"], [(1, "ä")])
    (tmp_path / "table.duckdb").unlink()
    assert made(tmp_path, '[{"x": 1, "y": "b"}]', form="json") == (["x", "y"], [(1, "b")])


def test_a_sheet_of_a_workbook(tmp_path: Path) -> None:
    steps: list[dict[str, Any]] = [{"filter": {"column": "count", "is": ">", "value": 3}}]
    found = made(tmp_path, workbooks.workbook(), form="excel", steps=steps)
    assert found == (["well", "count"], [("A2", 4)])
    (tmp_path / "table.duckdb").unlink()
    with pytest.raises(Unreadable, match="Plate 2"):
        made(tmp_path, workbooks.workbook(), form="excel", sheet="Plate 2")


def test_parquet_keeps_its_types(tmp_path: Path) -> None:
    query = "SELECT 1::SMALLINT AS n, DATE '2024-02-29' AS day, 0.1::DECIMAL(4,2) AS share"
    duckdb.connect().execute(f"COPY ({query}) TO '{tmp_path / 'given'}' (FORMAT parquet)")
    content = (tmp_path / "given").read_bytes()
    columns, rows = made(tmp_path, content, form="parquet")
    assert (columns, rows) == (["n", "day", "share"], [(1, date(2024, 2, 29), Decimal("0.10"))])
    (tmp_path / "table.duckdb").unlink()
    with pytest.raises(Unreadable):
        made(tmp_path, content[:-20], form="parquet")


def test_no_half_table(tmp_path: Path) -> None:
    with pytest.raises(
        Unreadable, match=r"2 lines are not as .*: line 12, column 'b': fewer .*; line 13: more"
    ):
        made(tmp_path, "a,b\n" + "1,2\n" * 10 + "1\n1,2,3\n")


@pytest.mark.parametrize(
    ("steps", "columns", "rows"),
    [
        (
            [{"rename": {"id": "sample"}}, {"keep": ["sample", "age"]}],
            "sample age",
            [(1, 17), (2, 40), (3, 41)],
        ),
        ([{"drop": ["when", "a", "b", "name"]}], "id age", [(1, 17), (2, 40), (3, 41)]),
        ([{"filter": {"column": "age", "is": ">=", "value": "40"}}, {"keep": ["id"]}], "id", [(2,), (3,)]),
        ([{"filter": {"column": "name", "is": "missing"}}, {"keep": ["id"]}], "id", [(2,)]),
        ([{"filter": {"column": "name", "is": "contains", "value": "o"}}, {"keep": ["id"]}], "id", [(3,)]),
        (
            [{"filter": {"column": "id", "is": "one of", "value": [1, "3"]}}, {"keep": ["id"]}],
            "id",
            [(1,), (3,)],
        ),
        ([{"filter": {"column": "name", "is": "=", "value": "x' OR 1=1 --"}}, {"keep": ["id"]}], "id", []),
        (
            [{"cast": {"id": "text", "age": "number"}}, {"keep": ["id", "age"]}],
            "id age",
            [("1", 17.0), ("2", 40.0), ("3", 41.0)],
        ),
        (
            [
                {"keep": ["id", "a", "b"]},
                {"long": {"keep": ["id"], "names": "feature", "values": "value"}},
                {"filter": {"column": "id", "is": "<", "value": 3}},
            ],
            "id feature value",
            [(1, "a", 1.5), (1, "b", 2.0), (2, "a", 2.5), (2, "b", 3.0)],
        ),
        (
            [
                {"keep": ["id", "a", "b"]},
                {"long": {"keep": ["id"], "names": "feature", "values": "value"}},
                {"wide": {"names": "feature", "values": "value"}},
            ],
            "id a b",
            [(1, 1.5, 2.0), (2, 2.5, 3.0), (3, 3.5, 4.0)],
        ),
    ],
)
def test_steps(tmp_path: Path, steps: list[dict[str, Any]], columns: str, rows: Rows) -> None:
    assert made(tmp_path, steps=steps) == (columns.split(), rows)


@pytest.mark.parametrize(
    ("step", "told"),
    [
        ({"keep": ["no"]}, r"Step 1 \(keep\): the table has no column 'no'; it has: id, age, name"),
        ({"rename": {"id": "age"}}, "there would be several columns 'age'"),
        ({"cast": {"name": "number"}}, "Could not convert string 'Ann' to DOUBLE"),
        ({"filter": {"column": "age", "is": "=", "value": "old"}}, "Could not convert string 'old'"),
        ({"drop": ["id", "age", "name", "when", "a", "b"]}, "no column would be left"),
        ({"long": {"keep": ["id"], "names": "id", "values": "v"}}, "are taken"),
        ({"wide": {"names": "name", "values": "no"}}, "no column 'no'"),
    ],
)
def test_a_step_that_does_not_fit_says_so(tmp_path: Path, step: dict[str, Any], told: str) -> None:
    with pytest.raises(Unreadable, match=told):
        made(tmp_path, steps=[step])


def test_two_values_for_one_cell(tmp_path: Path) -> None:
    steps = [{"wide": {"names": "f", "values": "v"}}]
    with pytest.raises(Unreadable, match="there are several values for id = 1, f = a"):
        made(tmp_path, "id,f,v\n1,a,1\n1,a,2\n", steps=steps)


def test_names_are_quoted(tmp_path: Path) -> None:
    content = json.dumps([{'a"; DROP TABLE t; --': 1}])
    steps = [{"rename": {'a"; DROP TABLE t; --': 'b"'}}]
    assert made(tmp_path, content, steps=steps, form="json") == (['b"'], [(1,)])


def together(tmp_path: Path, *contents: bytes | str, form: str = "text") -> tuple[Rows, dict[str, Any]]:
    """Rows of files that are read together, and what is told; they are called a.csv, b.csv…"""
    parts = []
    (tmp_path / "parts").mkdir()
    (tmp_path / "work").mkdir()
    for number, content in enumerate(contents):
        path = tmp_path / "parts" / str(number)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        parts.append({"path": str(path), "name": f"{'abc'[number]}.csv", "format": form})
    asked = {"path": str(tmp_path / "parts"), "parts": parts, "format": "", "work": str(tmp_path / "work")}
    told = convert(asked | {"memory_bytes": 200 * 1024**2})
    result = tmp_path / "work" / RESULT
    assert {path.name for path in (tmp_path / "work").iterdir()} <= {RESULT, "table.duckdb"}
    return duckdb.connect().execute(f"SELECT * FROM read_parquet('{result}')").fetchall(), told


def test_files_are_read_together_with_where_each_row_came_from(tmp_path: Path) -> None:
    rows, told = together(tmp_path, "x,y\n2,a\n1,b\n", "y;x\nä;0.5\n".encode("cp1252"), "x,y\n,c\n")
    assert rows == [
        (2.0, "a", "a.csv"),
        (1.0, "b", "a.csv"),
        (0.5, "ä", "b.csv"),
        (None, "c", "c.csv"),
    ]
    assert told["notes"] == []


def test_columns_of_several_kinds_are_text_as_it_stands_in_the_files(tmp_path: Path) -> None:
    rows, told = together(tmp_path, "well,n\n1.50,1\n", "well,n\nB7,2\n", "well,n\n2026-01-02,3\n")
    assert rows == [("1.50", 1, "a.csv"), ("B7", 2, "b.csv"), ("2026-01-02", 3, "c.csv")]
    assert told["notes"] == ["Column 'well' is number in a.csv, text in b.csv, date in c.csv; so it is text."]


@pytest.mark.parametrize(
    ("second", "words"),
    [
        ("x,z\n1,2\n", r"b.csv has other columns than a.csv: it lacks 'y' and has besides 'z'"),
        ("x\n1\n", "it lacks 'y'"),
        ("x,y\n1,2\n3\n", "b.csv: 1 line is not as it should be: line 3"),
        ("", "b.csv: The file is empty"),
        ("x,y,from_object\n1,2,3\n", "b.csv has a column 'from_object' itself"),
    ],
)
def test_what_does_not_go_together_is_named(tmp_path: Path, second: str, words: str) -> None:
    with pytest.raises(Unreadable, match=words):
        together(tmp_path, "x,y\n1,2\n", second)
