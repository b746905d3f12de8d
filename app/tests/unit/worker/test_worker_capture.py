"""The log, its bound, the last words; and progress."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labfleet.worker import progress
from labfleet.worker.capture import Capture


def test_both_streams_go_into_one_log(tmp_path: Path) -> None:
    with Capture(tmp_path / "log", 100) as capture:
        capture.write(b"out\n", is_error=False)
        capture.write(b"err\n", is_error=True)

    assert (tmp_path / "log").read_bytes() == b"out\nerr\n"
    assert not capture.truncated


def test_a_full_log_ends_with_one_line_that_says_so(tmp_path: Path) -> None:
    with Capture(tmp_path / "log", 10) as capture:
        for _ in range(100):
            capture.write(b"1234567", is_error=False)

    assert (tmp_path / "log").read_text() == (
        "1234567123\n[labfleet] the log ends here: it is limited to 10 bytes\n"
    )


def test_an_exactly_full_log_is_whole(tmp_path: Path) -> None:
    with Capture(tmp_path / "log", 4) as capture:
        capture.write(b"1234", is_error=False)

    assert (tmp_path / "log").read_bytes() == b"1234"


def test_last_words_are_those_of_standard_error(tmp_path: Path) -> None:
    with Capture(tmp_path / "log", 5) as capture:
        capture.write(b"Error: no such gene\n \n\n", is_error=True)
        capture.write(b"bye\n", is_error=False)

    assert capture.last_words == "Error: no such gene"


def test_last_words_may_be_split_damaged_or_absent(tmp_path: Path) -> None:
    with Capture(tmp_path / "log", 5) as capture:
        assert capture.last_words == ""
        capture.write(b"x" * 10_000 + b"\nthe e", is_error=True)
        capture.write(b"nd\xff", is_error=True)

    assert capture.last_words == "the end�"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("0.40 text of it", (0.4, "text of it")),
        ("0.5", (0.5, "")),
        (" 1 done \n", (1.0, "done")),
        ("7 too much", (1.0, "too much")),
        ("-1 too little", (0.0, "too little")),
        ("0.1 a\tb\x00c", (0.1, "a b c")),
        ("nan x", None),
        ("inf x", None),
        ("half", None),
        ("", None),
    ],
)
def test_a_line_of_progress(line: str, expected: progress.Progress | None) -> None:
    assert progress.parse(line) == expected


@given(st.text())
def test_any_line_is_survived(line: str) -> None:
    found = progress.parse(line)
    assert found is None or (0 <= found[0] <= 1 and len(found[1]) <= progress.MAX_TEXT)


def test_the_last_complete_good_line_counts(tmp_path: Path) -> None:
    path = tmp_path / "progress"
    path.write_bytes(b"0.1 a\n0.2 b\nrubbish\n\xff\n0.3 not yet comp")

    assert progress.read(path) == (0.2, "b")


def test_a_long_file_is_read_at_its_end(tmp_path: Path) -> None:
    path = tmp_path / "progress"
    path.write_bytes(b"0.1 a\n" * 10_000 + b"0.9 z\n")

    assert progress.read(path) == (0.9, "z")


def test_no_progress(tmp_path: Path) -> None:
    (tmp_path / "progress").touch()
    assert progress.read(tmp_path / "progress") is None
