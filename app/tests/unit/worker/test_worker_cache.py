"""Protocols that were fetched before."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from labfleet.worker.cache import Cache

ONE, TWO, THREE = "1" * 40, "2" * 40, "3" * 40


@pytest.fixture
def arrive(tmp_path: Path) -> Callable[[str, bytes], Path]:
    """A tar as it has just been fetched."""

    def write(name: str, content: bytes) -> Path:
        path = tmp_path / f"fetched-{name[0]}"
        path.write_bytes(content)
        return path

    return write


def test_what_was_added_is_taken(tmp_path: Path, arrive: Callable[[str, bytes], Path]) -> None:
    cache = Cache(tmp_path / "cache", 100)
    assert not cache.take(ONE, tmp_path / "none")

    first = arrive(ONE, b"first")
    cache.add(ONE, first)
    first.unlink()
    cache.add(ONE, arrive(ONE, b"of another attempt"))

    for name in ("a", "b"):
        assert cache.take(ONE, tmp_path / name)
        assert (tmp_path / name).read_bytes() == b"first"
    assert not cache.take(TWO, tmp_path / "other")


def test_what_was_used_longest_ago_makes_room(tmp_path: Path, arrive: Callable[[str, bytes], Path]) -> None:
    cache = Cache(tmp_path / "cache", 10)
    for age, commit in ((300, ONE), (200, TWO)):
        path = arrive(commit, b"1234")
        cache.add(commit, path)
        os.utime(path, (1_000_000 - age, 1_000_000 - age))
    assert cache.take(ONE, tmp_path / "used")  # now

    cache.add(THREE, arrive(THREE, b"1234"))

    assert cache.take(ONE, tmp_path / "one")
    assert not cache.take(TWO, tmp_path / "two")
    assert cache.take(THREE, tmp_path / "three")


def test_nothing_larger_than_the_whole_and_nothing_at_all_when_off(
    tmp_path: Path, arrive: Callable[[str, bytes], Path]
) -> None:
    for directory, limit in ((tmp_path / "small", 3), (tmp_path / "off", 0)):
        cache = Cache(directory, limit)
        cache.add(ONE, arrive(ONE, b"1234"))
        assert not cache.take(ONE, tmp_path / "none")
        assert not directory.exists()


def test_what_is_bad_is_dropped(tmp_path: Path, arrive: Callable[[str, bytes], Path]) -> None:
    cache = Cache(tmp_path / "cache", 10)
    cache.add(ONE, arrive(ONE, b"1"))
    cache.drop(ONE)
    cache.drop(ONE)
    assert not cache.take(ONE, tmp_path / "none")
