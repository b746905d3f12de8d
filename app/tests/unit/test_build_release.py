"""Which releases the controller keeps: what a play has asked for is not removed by what it builds."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest
from by_path import load


@pytest.fixture(scope="module")
def program() -> ModuleType:
    return load("roles/app/files/build_release.py")


def test_one_that_was_asked_for_outlives_newer_ones(
    program: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source, cache = tmp_path / "source", tmp_path / "cache"
    (source / "src").mkdir(parents=True)
    cache.mkdir()
    (source / "pyproject.toml").write_text('[project]\nname = "some"\nversion = "1.2.3"\n')
    for name in ("uv.lock", "README.md"):
        (source / name).touch()
    options = ["--uv", "uv", "--python-version", "3.11", "--architecture", "x86_64", "--dry-run"]
    command = ["build_release.py", "--source", str(source), "--cache", str(cache), *options]
    monkeypatch.setattr(sys, "argv", command)
    program.main()
    asked = Path(json.loads(capsys.readouterr().out)["archive"])
    others = [cache / f"1.2.{number}-other.tar" for number in range(program.KEPT_ARCHIVES)]
    for age, archive in enumerate([*others, asked]):
        archive.touch()
        os.utime(archive, (1e9 - age, 1e9 - age))

    program.main()
    program.prune(cache)

    assert json.loads(capsys.readouterr().out)["built"] is False
    assert sorted(cache.iterdir()) == sorted([asked, *others[:-1]])
