"""Arrays as lines."""

from __future__ import annotations

import json

import pytest

from labfleet.web.pages.arrays import LINES, POINTS, Series, read_series


def test_a_table_is_plotted_over_its_first_column_if_that_grows() -> None:
    found = read_series("time,v,name\n0,1.5,a\n1,,b\n2,3,c\n", ",")
    assert found == Series("time", [0, 1, 2], {"v": [1.5, None, 3]})


def test_columns_that_go_up_and_down_are_plotted_over_their_index() -> None:
    assert read_series("a,b\n3,1\n1,2\n", ",") == Series("index", [0, 1], {"a": [3, 1], "b": [1, 2]})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"t": [0, 0, 1], "v": [1, 2, "x"]}, Series("t", [0, 0, 1], {"v": [1, 2, None]})),
        ([4, 2, True], Series("index", [0, 1, 2], {"value": [4, 2, None]})),
        ([[2, 1], [5]], Series("index", [0, 1], {"0": [2, 1], "1": [5, None]})),
        ({"name": "x"}, None),
        ({"v": ["a"]}, None),
        ("text", None),
        ([], None),
    ],
)
def test_json(value: object, expected: Series | None) -> None:
    assert read_series(json.dumps(value), None) == expected


def test_no_json_and_too_deep_json_are_none() -> None:
    assert read_series("{", None) is None
    assert read_series("[" * 100_000, None) is None


def test_long_and_many_lines_are_thinned() -> None:
    found = read_series(json.dumps({f"l{n}": [1, 0] * POINTS for n in range(LINES + 3)}), None)
    assert found is not None
    assert (found.every, len(found.across), len(found.lines)) == (2, POINTS, LINES)


def test_units_of_what_is_there() -> None:
    found = read_series("time,v\n0,1\n1,2\n", ",", {"time": "ms", "v": "mV", "other": "kg"})
    assert found is not None
    assert found.units == {"time": "ms", "v": "mV"}
