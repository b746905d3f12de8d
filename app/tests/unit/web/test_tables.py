"""Tables of results: sorted, page by page."""

from __future__ import annotations

import pytest

from labfleet.web.pages.tables import COLUMNS, ROWS, read_rows, separator_of, sheet

TABLE = [["name", "value"], ["b", "10"], ["a", "9"], ["c", ""], ["D", "-1e3"], ["e", "n/a"]]


@pytest.mark.parametrize(
    ("sort", "down", "order"),
    [
        (None, False, "bacDe"),
        (1, False, "Dabec"),  # numbers by value, then texts, then what is empty
        (1, True, "ebaDc"),
        (0, False, "abcDe"),
        (7, False, "bacDe"),  # there is no such column
    ],
)
def test_sorting(sort: int | None, down: bool, order: str) -> None:
    page = sheet(TABLE, sort, 1, down=down)
    assert "".join(row[0] for row in page.rows) == order
    assert page.numeric == [False, False]


def test_pages() -> None:
    rows = [["n"], *([str(number)] for number in range(ROWS * 2 + 1))]
    last = sheet(rows, None, 99)
    assert (last.page, last.pages, last.total, last.rows) == (3, 3, ROWS * 2 + 1, [[str(ROWS * 2)]])
    assert last.numeric == [True] and last.more == ""


def test_what_is_left_out_is_told() -> None:
    wide = [[str(column) for column in range(COLUMNS + 5)]] * 3
    cut = sheet(wide, 0, 1, whole=False)
    assert len(cut.head) == COLUMNS and not cut.sortable
    assert f"first {COLUMNS} of {COLUMNS + 5} columns" in cut.more and "first 2 rows" in cut.more


def test_reading() -> None:
    assert read_rows('a,"b\nc"\n\n1,2\n', ",") == [["a", "b\nc"], ["1", "2"]]
    assert read_rows("a,b\n1,2\n3", ",", whole=False) == [["a", "b"], ["1", "2"]]
    assert read_rows("x" * 200_000, ",") is None and read_rows("", ",") is None


def test_separators() -> None:
    assert separator_of("t.csv", "") == "," and separator_of("x", "text/csv") == ","
    assert separator_of("t.tsv", "") == "\t" and separator_of("t.json", "application/json") is None
