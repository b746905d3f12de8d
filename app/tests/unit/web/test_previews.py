"""First rows of tables."""

from __future__ import annotations

from labfleet.web.pages.frame import is_number, size_text
from labfleet.web.pages.previews import PREVIEW_COLUMNS, PREVIEW_ROWS, read_table


def test_a_small_table_is_shown_whole() -> None:
    table = read_table('a,b\n1,"x, y"\n', ",")
    assert table is not None
    assert (table.head, table.rows, table.more) == (["a", "b"], [["1", "x, y"]], "")


def test_a_large_one_says_what_is_left_out() -> None:
    rows = ["\t".join(str(column) for column in range(40))] * 500
    table = read_table("\n".join(rows), "\t")
    assert table is not None
    assert len(table.rows) == PREVIEW_ROWS and len(table.head) == PREVIEW_COLUMNS
    assert table.more == "The first 12 rows and first 10 of 40 columns."


def test_a_cut_last_line_is_left_out() -> None:
    table = read_table("a,b\n1,2\n3", ",", whole=False)
    assert table is not None and table.rows == [["1", "2"]]


def test_what_is_no_table_is_none() -> None:
    assert read_table("", ",") is None
    assert read_table("x" * 200_000, ",") is None


def test_sizes_and_numbers() -> None:
    assert [size_text(size) for size in (0, 1023, 1536, 5 * 1024**4)] == ["0 B", "1023 B", "1.5 KB", "5.0 TB"]
    assert is_number("1e-3") and not is_number("ALL")
