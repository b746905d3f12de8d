from __future__ import annotations

import csv
import io
import random
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

DEFAULTS: dict[str, Any] = {"delimiter": "auto", "missing": ["NA", "NaN", "null"], "top": 5}
SAMPLE = Path(__file__).parents[2] / "protocols" / "table-summary" / "sample.csv"


@pytest.fixture
def summarise(run_protocol: Callable[..., Any]) -> Callable[..., Any]:
    def run(content: bytes, **parameters: Any) -> Any:
        return run_protocol(
            "table-summary", [sys.executable, "main.py"], DEFAULTS | parameters, table=content
        )

    return run


def rows(run: Any) -> dict[str, dict[str, str]]:
    assert run.code == 0, run.error
    with (run.outputs / "summary.csv").open(encoding="utf-8", newline="") as file:
        return {row["column"]: row for row in csv.DictReader(file)}


def test_the_sample(summarise: Callable[..., Any]) -> None:
    run = summarise(SAMPLE.read_bytes())
    found = rows(run)
    assert {name: row["type"] for name, row in found.items()} == {
        "patient": "text",
        "age": "integer",
        "weight": "number",
        "diagnosis": "text",
        "smoker": "boolean",
        "enrolled": "date",
    }
    assert (found["weight"]["count"], found["weight"]["missing"]) == ("4", "2")
    assert found["smoker"]["top"] == "no (3); yes (2)"
    assert "6 rows, 6 columns" in (run.outputs / "summary.txt").read_text()
    assert run.progress[-1] == (1.0, "done")


def test_numbers_agree_with_the_standard_library(summarise: Callable[..., Any]) -> None:
    chance = random.Random(5)
    values = [round(chance.gauss(3, 10), 3) for _ in range(501)]
    row = rows(summarise("\n".join(["x", *map(str, values)]).encode()))["x"]
    assert float(row["mean"]) == pytest.approx(statistics.fmean(values), rel=1e-12)
    assert float(row["sd"]) == pytest.approx(statistics.stdev(values), rel=1e-12)
    quartiles = statistics.quantiles(values, n=4, method="inclusive")
    assert [float(row[name]) for name in ("q1", "median", "q3")] == pytest.approx(quartiles, rel=1e-12)
    assert (float(row["min"]), float(row["max"])) == (min(values), max(values))


@pytest.mark.parametrize(
    ("content", "delimiter"),
    [
        (b"a\tb\n1\t2\n", "auto"),
        (b"a;b\n1;2\n", "auto"),
        (b"a|b\n1|2\n", "pipe"),
        (b"a,b\r\n1,2\r\n", "auto"),
        (b"\xef\xbb\xbfa,b\n1,2\n", "auto"),
        (b"a,b\n1,2", "auto"),
        (b"a,b\n\n1,2\n\n", "auto"),
        (b'"a","b"\n"1","2"\n', "comma"),
    ],
)
def test_forms_of_tables(summarise: Callable[..., Any], content: bytes, delimiter: str) -> None:
    found = rows(summarise(content, delimiter=delimiter))
    assert {name: (row["type"], row["count"]) for name, row in found.items()} == {
        "a": ("integer", "1"),
        "b": ("integer", "1"),
    }


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"a,b\n1,2\n1,2,3\n", "Line 3 has 3 fields"),
        (b"a,b\n1\n", "Line 2 has 1 fields"),
        (b'a,b\n"x\ny",2\n3\n', "Line 4 has 1 fields"),
        (b'a,b\n1,2\n"x,2\n3,4\n', "Line 3: a quoted field"),
        (b'a,b\n"x"y,2\n', "Line 2"),
        (b"a,b\n1,\xff\n", "Line 2 is not UTF-8"),
        (b"a,b\n" + b"1,2\n" * 2000 + b"1,\0\n", "Line 2002 has a NUL"),
        (b",,\n1,2,3\n", "Line 1 has no column names"),
    ],
)
def test_a_broken_table_tells_the_line(summarise: Callable[..., Any], content: bytes, line: str) -> None:
    run = summarise(content)
    assert run.code == 1
    assert run.reason.startswith(line), run.error
    assert "Traceback" not in run.error


@pytest.mark.parametrize(
    "content", [b"", b"  \n\n", b"\x89PNG\r\n\x1a\n\0\0", b'{"a": 1}', b"<html></html>", b"[1, 2]"]
)
def test_what_is_no_table_is_inapplicable(summarise: Callable[..., Any], content: bytes) -> None:
    run = summarise(content)
    assert run.code == 65
    assert "nothing to summarise" in run.reason


def test_columns_without_values_and_repeated_names(summarise: Callable[..., Any]) -> None:
    run = summarise(b"x,x,\nNA,,1\n")
    with io.StringIO((run.outputs / "summary.csv").read_text()) as file:
        found = list(csv.DictReader(file))
    assert [row["column"] for row in found] == ["x", "x", "column 3"]
    assert [row["type"] for row in found] == ["empty", "empty", "integer"]


def test_infinity_and_underscores_are_text(summarise: Callable[..., Any]) -> None:
    assert rows(summarise(b"x\ninf\n1_000\n"))["x"]["type"] == "text"


def test_a_long_table_tells_its_progress(summarise: Callable[..., Any]) -> None:
    run = summarise(b"a,b\n" + b"123456789,abcdefgh\n" * 200_000)
    assert rows(run)["a"]["count"] == "200000"
    shares = [share for share, _ in run.progress]
    assert len(shares) > 3
    assert shares == sorted(shares)
