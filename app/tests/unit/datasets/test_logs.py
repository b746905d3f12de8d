"""Logs of attempts."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from labfleet.datasets.logs import LogStore
from labfleet.errors import TooLarge

TASK = uuid.UUID(int=7)


@pytest.fixture
def logs(tmp_path: Path) -> LogStore:
    made = LogStore(tmp_path, limit=20)
    made.prepare()
    return made


def test_pieces_make_a_log(logs: LogStore) -> None:
    logs.write(TASK, 1, 0, b"hello\n")
    logs.write(TASK, 1, 6, b"world\n")
    assert logs.read(TASK, 1, 0, 100) == (b"hello\nworld\n", 12)
    assert logs.read(TASK, 1, 3, 4) == (b"lo\nw", 12)
    assert logs.read(TASK, 1, 99, 4) == (b"", 12)
    assert logs.path(TASK, 1).name == f"{TASK}.1.log"


def test_a_repeated_piece_counts_once(logs: LogStore) -> None:
    logs.write(TASK, 1, 0, b"hello\n")
    logs.write(TASK, 1, 0, b"hello\n")
    assert logs.read(TASK, 1, 0, 100) == (b"hello\n", 6)


def test_attempts_have_logs_of_their_own(logs: LogStore) -> None:
    logs.write(TASK, 1, 0, b"one")
    assert logs.read(TASK, 2, 0, 100) == (b"", 0)


def test_a_log_has_a_limit(logs: LogStore) -> None:
    with pytest.raises(TooLarge):
        logs.write(TASK, 1, 15, b"123456")
    assert not logs.path(TASK, 1).exists()


def test_the_tail_is_text_whatever_the_bytes(logs: LogStore) -> None:
    logs.write(TASK, 1, 0, b"abc\xffdef")
    assert logs.tail(TASK, 1, 4) == ("\ufffddef", True)
    assert logs.tail(TASK, 1, 100) == ("abc\ufffddef", False)
    assert logs.tail(TASK, 3, 100) == ("", False)
