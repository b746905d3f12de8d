"""What is told of tables, and of files that are none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import pytest

from labfleet.datasets.profile import BINS, Bounds, Unreadable, profile
from labfleet.datasets.tables import Format, format_of

BOUNDS = Bounds(memory_bytes=256 * 1024**2, rows=3, columns=4)


def look(tmp_path: Path, content: bytes | str, form: Format = Format.TEXT) -> dict[str, Any]:
    path, work = tmp_path / "table", tmp_path / "work"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    work.mkdir()
    told = profile(path, form, work, BOUNDS)
    json.dumps(told)
    return told


def columns(told: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {column["name"]: column for column in told["columns"]}


@pytest.mark.parametrize(
    ("name", "form"),
    [("a.csv", Format.TEXT), ("A.TSV", Format.TEXT), ("b.xlsx", Format.EXCEL), ("c", None), ("csv", None)],
)
def test_tables_are_known_by_their_names(name: str, form: Format | None) -> None:
    assert format_of(name) is form


@pytest.mark.parametrize(
    ("separator", "name"), [(",", "comma"), (";", "semicolon"), ("\t", "tab"), ("|", "bar")]
)
def test_separator_header_and_size(tmp_path: Path, separator: str, name: str) -> None:
    rows = [["gene", "count", "at"], ["a", "1", "2026-01-02"], ["b", "", "2026-01-03"], ["b", "4", ""]]
    told = look(tmp_path, "\n".join(separator.join(row) for row in rows))
    assert (told["separator"], told["separator_name"], told["header"]) == (separator, name, True)
    assert (told["encoding"], told["rows"], told["columns_total"]) == ("utf-8", 3, 3)
    assert told["rejected"] == {"count": 0, "more": False, "lost": 0, "shown": []}
    assert told["head"] == [["a", "1", "2026-01-02"], ["b", None, "2026-01-03"], ["b", "4", None]]
    found = columns(told)
    assert [column["type"] for column in found.values()] == ["text", "whole number", "date"]
    assert [column["missing"] for column in found.values()] == [0, 1, 1]
    assert found["gene"]["top"] == [{"value": "b", "count": 2}, {"value": "a", "count": 1}]
    assert (found["at"]["least"], found["at"]["greatest"]) == ("2026-01-02", "2026-01-03")


def test_a_histogram_counts_every_number(tmp_path: Path) -> None:
    numbers = [*range(100), "", "inf", "nan"]
    told = look(tmp_path, "name,x\n" + "\n".join(f"n{number},{number}" for number in numbers))
    column = columns(told)["x"]
    assert (column["least"], column["greatest"], column["mean"]) == (0, 99, 49.5)
    assert column["histogram"] == [5] * BINS
    assert column["missing"] == 1


def test_a_broken_quote_is_named_by_line_and_byte(tmp_path: Path) -> None:
    lines = ["id,name", *(f'{number},"n"' for number in range(5000))]
    lines[3000] = '2999,"broken'
    told = look(tmp_path, "\n".join(lines))
    (fault,) = told["rejected"]["shown"]
    assert told["rejected"]["count"] == 1
    assert (fault["line"], fault["column"]) == (3001, "name")
    assert fault["byte"] == len("\n".join(lines[:3000]) + "\n2999,")
    assert fault["message"] == "a quote is opened and not closed as it should be"


def test_a_quote_that_is_never_closed_tells_how_much_is_lost(tmp_path: Path) -> None:
    lines = ["id,name", *(f"{number},n" for number in range(5000)), ""]
    lines[3001] = '3000,"broken'
    told = look(tmp_path, "\n".join(lines))
    assert (told["rows"], told["rejected"]["count"], told["rejected"]["lost"]) == (3000, 1, 1999)
    assert told["rejected"]["shown"][0]["line"] == 3002


def test_lines_of_other_lengths_are_named(tmp_path: Path) -> None:
    told = look(tmp_path, "a,b\n" + "1,2\n" * 50 + "1,2,3\n" + "1,2\n" * 50 + "1\n" + "1,2\n")
    assert [(each["line"], each["message"]) for each in told["rejected"]["shown"]] == [
        (52, "more columns than the first lines have"),
        (103, "fewer columns than the first lines have"),
    ]
    assert told["rows"] == 101


def test_a_column_that_changes_its_mind_is_text_and_nothing_is_lost(tmp_path: Path) -> None:
    told = look(tmp_path, "n,m\n" + "".join(f"{number},x\n" for number in range(30_000)) + "unknown,x\n")
    assert told["rows"] == 30_001
    assert told["rejected"]["count"] == 0
    assert columns(told)["n"]["type"] == "text"
    (note,) = told["notes"]
    assert note.startswith("Column 'n' begins as whole number; from line 30,002")


def test_two_encodings_in_one_file_are_told(tmp_path: Path) -> None:
    told = look(tmp_path, "name,x\nMüller,1\n".encode() + b"M\xfcller,2\n")
    assert told["encoding"] == "mixed"
    assert [(each["line"], each["byte"]) for each in told["rejected"]["shown"]] == [(3, 18)]
    assert told["head"] == [["Müller", "1"], ["Müller", "2"]]


def test_many_columns_are_counted_and_the_first_are_shown(tmp_path: Path) -> None:
    names = [f"c{number}" for number in range(300)]
    told = look(tmp_path, f"{','.join(names)}\n{','.join('1' for _ in names)}\n")
    assert told["columns_total"] == 300
    assert list(columns(told)) == names[:4]


def test_odd_names_of_columns(tmp_path: Path) -> None:
    told = look(tmp_path, 'x,"a ""b"" \'c\'",x,name\n1,2,3,u\n4,5,6,v\n')
    first, odd, again, name = told["columns"]
    assert (first["name"], odd["name"], name["name"]) == ("x", "a \"b\" 'c'", "name")
    assert again["name"] != "x"
    assert (again["least"], again["greatest"]) == (3, 6)


def test_what_stands_before_a_table_is_left_out(tmp_path: Path) -> None:
    told = look(tmp_path, "# plate 4\n# room 4\nwell,count\n" + "".join(f"A{n},{n}\n" for n in range(30)))
    assert list(columns(told)) == ["well", "count"]
    assert (told["rows"], told["rejected"]["count"]) == (30, 0)


def test_times_are_shown_in_utc_and_means_may_be_too_large(tmp_path: Path) -> None:
    told = look(tmp_path, "at,x\n2026-01-01T00:00:00Z,1e308\n2026-01-02T00:00:00+02:00,1.7e308\n")
    at, x = columns(told)["at"], columns(told)["x"]
    assert (at["type"], at["least"]) == ("date and time", "2026-01-01 00:00:00+00")
    assert told["head"][1][0] == "2026-01-01 22:00:00+00"
    assert x["mean"] is None or x["mean"] < 1.8e308
    json.dumps(told, allow_nan=False)


def test_columns_of_other_kinds(tmp_path: Path) -> None:
    values = "'x'::BLOB b, uuid() u, INTERVAL 3 DAY i, MAP {'a': 1} m, [1, 2] l, 'nan'::DOUBLE n, NULL e"
    duckdb.sql(f"SELECT {values}").write_parquet(str(tmp_path / "p"))
    (tmp_path / "other").mkdir()
    bounds = Bounds(BOUNDS.memory_bytes, 3, 20)
    told = profile(tmp_path / "p", Format.PARQUET, tmp_path / "other", bounds)
    kinds = ["blob", "uuid", "interval", "map", "list", "number", "nothing"]
    assert [column["type"] for column in told["columns"]] == kinds
    assert told["head"][0][4] == "[1, 2]"
    json.dumps(told, allow_nan=False)


def test_json_and_parquet(tmp_path: Path) -> None:
    told = look(tmp_path, '[{"a": 1, "b": "x"}, {"a": null, "b": "y"}]', Format.JSON)
    assert (told["rows"], columns(told)["a"]["missing"]) == (2, 1)
    duckdb.sql("SELECT range AS n, 'x' AS t FROM range(50)").write_parquet(str(tmp_path / "p"))
    (tmp_path / "other").mkdir()
    told = look(tmp_path / "other", (tmp_path / "p").read_bytes(), Format.PARQUET)
    assert (told["rows"], columns(told)["n"]["greatest"]) == (50, 49)


def test_a_workbook(tmp_path: Path, workbook: bytes) -> None:
    told = look(tmp_path, workbook, Format.EXCEL)
    assert (told["sheet"], told["sheets"]) == ("Plate 1", ["Plate 1", "Notes"])
    assert (told["rows"], told["header"]) == (2, True)
    assert told["head"] == [["A1", "3"], ["A2", "4"]]
    assert "separator" not in told


@pytest.mark.parametrize(
    ("content", "form", "message"),
    [
        (b"", Format.TEXT, "The file is empty"),
        (b"a,b\n1,\0\n", Format.TEXT, r"Line 2 \(byte 6\) has a zero byte"),
        (b'[{"a": 1}, {"a": [', Format.JSON, "Malformed JSON in the file, at byte"),
        (b"PK\x03\x04 no zip", Format.EXCEL, "The workbook can't be read"),
        (b"no parquet at all, though it is called so", Format.PARQUET, "No magic bytes"),
    ],
)
def test_what_can_t_be_read_says_why_and_not_where_it_lies(
    tmp_path: Path, content: bytes, form: Format, message: str
) -> None:
    with pytest.raises(Unreadable, match=message) as caught:
        look(tmp_path, content, form)
    assert str(tmp_path) not in str(caught.value)
