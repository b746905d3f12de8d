"""What came of a self-test, compared with what its protocol expects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from labfleet.jobs.self_tests import Result, misfit
from labfleet.protocols.manifest import Expected

TABLE = "name,mean,n\na,1.5,x\nb,,7\n"


@pytest.mark.parametrize(
    ("expected", "told"),
    [
        ({}, ""),
        ({"contains": "mean"}, ""),
        ({"contains": "median"}, "summary: it does not contain 'median'."),
        ({"column": "mean", "value": 1.5}, ""),
        ({"column": "mean", "value": 1.4, "tolerance": 0.2}, ""),
        ({"column": "mean", "value": 1.4}, "summary: 'mean' in row 1 is '1.5', expected 1.4."),
        ({"column": "n", "value": "x"}, ""),
        ({"column": "n", "value": 7, "row": 2}, ""),
        ({"column": "n", "value": 7}, "summary: 'n' in row 1 is 'x', expected 7."),
        ({"column": "mean", "value": 1, "row": 2}, "summary: 'mean' in row 2 is '', expected 1."),
        ({"column": "mean", "value": 1, "row": 3}, "summary: the table has no row 3, only 2."),
        ({"column": "sd", "value": 1}, "summary: the table has no column 'sd'."),
    ],
)
def test_a_table(tmp_path: Path, expected: dict[str, Any], told: str) -> None:
    (tmp_path / "summary.csv").write_text(TABLE)
    result = Result(tmp_path / "summary.csv", "summary.csv", len(TABLE))
    assert misfit(Expected.model_validate({"output": "summary"} | expected), result, 1000) == told


@pytest.mark.parametrize("cell", ["nan", "inf", "1,5"])
def test_no_number_is_near_any(tmp_path: Path, cell: str) -> None:
    (tmp_path / "t.tsv").write_text(f"x\ty\n{cell}\t2\n")
    expected = Expected(output="t", column="x", value=1.5, tolerance=1e9)
    assert "'x' in row 1" in misfit(expected, Result(tmp_path / "t.tsv", "t.tsv", 10), 1000)


def test_nothing_empty_and_large(tmp_path: Path) -> None:
    place = tmp_path / "t.csv"
    place.write_text(TABLE)
    expected = Expected(output="t", contains="a")
    assert misfit(expected, None, 1000) == "t: it did not come."
    assert misfit(expected, Result(place, "t.csv", 0), 1000) == "t: the file is empty."
    assert "what is larger than 5 is not looked at" in misfit(expected, Result(place, "t.csv", 26), 5)
    assert misfit(Expected(output="t"), Result(place, "t.csv", 26), 5) == ""
