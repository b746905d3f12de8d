"""Which releases are removed when a new one has come: never one from which a process still runs."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest
from by_path import load

SLEEP = "import time; print(flush=True); time.sleep(600)"


@pytest.fixture(scope="module")
def program() -> ModuleType:
    return load("roles/app/files/install_release.py")


@pytest.fixture
def releases(tmp_path: Path) -> Path:
    """Five releases, the oldest first; 0.4.0 is the current one, 0.5.0 has just come."""
    folder = tmp_path / "releases"
    for age, name in enumerate(("0.5.0-e", "0.4.0-d", "0.3.0-c", "0.2.0-b", "0.1.0-a")):
        (folder / name / "bin").mkdir(parents=True)
        (folder / name / "bin" / "python").symlink_to(sys.executable)
        os.utime(folder / name, (1e9 - age, 1e9 - age))
    (tmp_path / "current").symlink_to(folder / "0.4.0-d")
    return folder


@contextmanager
def running(command: list[str], **environment: str) -> Iterator[None]:
    """A process that has begun, until the block ends."""
    process = subprocess.Popen(command, env={**os.environ, **environment}, stdout=subprocess.PIPE)
    try:
        assert process.stdout
        process.stdout.readline()
        yield
    finally:
        process.kill()
        process.communicate()


def left(program: ModuleType, releases: Path, keep: int) -> list[str]:
    program.prune(argparse.Namespace(releases=releases, keep=keep), releases / "0.5.0-e")
    return sorted(path.name for path in releases.iterdir())


@pytest.mark.parametrize(
    ("keep", "kept"), [(0, []), (1, []), (2, ["0.3.0-c"]), (9, ["0.1.0-a", "0.2.0-b", "0.3.0-c"])]
)
def test_the_newest_stay(program: ModuleType, releases: Path, keep: int, kept: list[str]) -> None:
    assert left(program, releases, keep) == [*kept, "0.4.0-d", "0.5.0-e"]


def test_one_whose_interpreter_runs_stays(program: ModuleType, releases: Path) -> None:
    interpreter = str(releases / "0.1.0-a" / "bin" / "python")
    with running([interpreter, "-I", "-S", "-c", SLEEP]):
        assert left(program, releases, 1) == ["0.1.0-a", "0.4.0-d", "0.5.0-e"]
    assert left(program, releases, 1) == ["0.4.0-d", "0.5.0-e"]


def test_one_that_a_process_names_in_its_environment_stays(program: ModuleType, releases: Path) -> None:
    said = {"LABFLEET_RELEASE": str(releases / "0.2.0-b")}
    with running([sys.executable, "-I", "-S", "-c", SLEEP], **said):
        assert left(program, releases, 1) == ["0.2.0-b", "0.4.0-d", "0.5.0-e"]
    assert left(program, releases, 1) == ["0.4.0-d", "0.5.0-e"]


def test_one_whose_name_only_begins_alike_goes(program: ModuleType, releases: Path) -> None:
    said = {"LABFLEET_RELEASE": str(releases / "0.2.0-bc")}
    with running([sys.executable, "-I", "-S", "-c", SLEEP], **said):
        assert "0.2.0-b" not in left(program, releases, 1)
