"""What a message may name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from labfleet.worker.removal import remove
from labfleet.worker.starter import Order

TASK = "0c2e4a3e-6f64-4a1b-9c55-0a4a4e1b7d11"


@pytest.mark.parametrize(
    ("task", "number"), [("../../etc", 1), (TASK.upper(), 1), ("", 1), (TASK, 0), (TASK, -1)]
)
def test_only_an_attempt_is_an_order(task: str, number: int) -> None:
    with pytest.raises(ValueError, match=r"."):
        Order("web", task, number, "la_x")


def test_its_unit() -> None:
    assert Order("web", TASK, 3, "la_x").unit == f"labfleet-attempt-{TASK}-3"


def test_whatever_was_left_is_removed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o500)
    attempt = tmp_path / "attempt"
    (attempt / "outputs/deep").mkdir(parents=True)
    (attempt / "outputs/deep/file").touch()
    (attempt / "outputs/link").symlink_to(outside)
    os.mkfifo(attempt / "outputs/pipe")
    (attempt / "outputs/deep").chmod(0)
    (attempt / "outputs").chmod(0)

    remove(attempt)
    remove(attempt)

    assert not attempt.exists()
    assert outside.stat().st_mode & 0o777 == 0o500
