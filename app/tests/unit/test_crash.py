"""Crash points: nothing without the variable, death exactly once with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from labfleet import crash

PROGRAM = "from labfleet import crash; crash.point('here'); print('passed')"


def run(**environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_no_variable_no_crash() -> None:
    assert run().stdout == "passed\n"


def test_another_point_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    assert run(**{crash.VARIABLE: str(tmp_path)}).stdout == "passed\n"
    assert (tmp_path / "there").exists()


def test_one_file_one_death(tmp_path: Path) -> None:
    (tmp_path / "here").touch()
    died = run(**{crash.VARIABLE: str(tmp_path)})
    assert (died.returncode, died.stdout) == (-signal.SIGKILL, "")
    assert not (tmp_path / "here").exists()
    assert run(**{crash.VARIABLE: str(tmp_path)}).stdout == "passed\n"


def test_a_directory_that_is_gone_is_no_error(tmp_path: Path) -> None:
    assert run(**{crash.VARIABLE: str(tmp_path / "gone")}).stdout == "passed\n"
