"""The module that keeps many files by one task: what it writes, what it leaves, what it foretells."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from by_path import load


@pytest.fixture(scope="module")
def loaded() -> ModuleType:
    return load("library/labfleet_files.py")


@pytest.fixture
def files(loaded: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module, for files of whoever runs the tests: only root may give files away."""
    owner = loaded.rights(tmp_path).split(":")[0]

    def give(path: Path, wanted: dict[str, Any]) -> None:
        path.chmod(int(wanted["mode"], 8))

    def asked(wanted: dict[str, Any]) -> str:
        group = loaded.rights(tmp_path).split(":")[1].split()[0]
        return f"{owner}:{group} {int(wanted['mode'], 8):04o}"

    monkeypatch.setattr(loaded, "give", give)
    monkeypatch.setattr(loaded, "asked", asked)
    return loaded


def entry(path: Path, mode: str = "0600", content: str = "new\n") -> dict[str, Any]:
    return {"path": str(path), "mode": mode, "content": content, "owner": "root"}


def test_writes_what_is_missing_and_then_nothing(files: ModuleType, tmp_path: Path) -> None:
    wanted = entry(tmp_path / "a.service")
    assert [files.name(change) for change in files.keep_file(wanted, check=False)] == ["a.service"]
    assert (tmp_path / "a.service").read_text() == "new\n"
    assert (tmp_path / "a.service").stat().st_mode & 0o7777 == 0o600
    assert files.keep_file(wanted, check=False) == []


@pytest.mark.parametrize(("mode", "content"), [("0644", "new\n"), ("0600", "newer\n")])
def test_mends_mode_and_content(files: ModuleType, tmp_path: Path, mode: str, content: str) -> None:
    files.keep_file(entry(tmp_path / "a"), check=False)
    assert len(files.keep_file(entry(tmp_path / "a", mode, content), check=False)) == 1
    assert (tmp_path / "a").read_text() == content
    assert (tmp_path / "a").stat().st_mode & 0o7777 == int(mode, 8)


def test_check_mode_foretells_and_changes_nothing(files: ModuleType, tmp_path: Path) -> None:
    assert len(files.keep_file(entry(tmp_path / "absent" / "a"), check=True)) == 1
    assert len(files.keep_directory(entry(tmp_path / "absent"), check=True)) == 1
    assert list(tmp_path.iterdir()) == []


def test_directories(files: ModuleType, tmp_path: Path) -> None:
    wanted = entry(tmp_path / "one" / "two", mode="0750")
    assert len(files.keep_directory(wanted, check=False)) == 1
    assert (tmp_path / "one" / "two").stat().st_mode & 0o7777 == 0o750
    assert files.keep_directory(wanted, check=False) == []


def test_a_failed_write_leaves_the_old_file(
    files: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.keep_file(entry(tmp_path / "a"), check=False)

    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(files, "give", refuse)
    with pytest.raises(PermissionError):
        files.keep_file(entry(tmp_path / "a", content="other\n"), check=False)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a", "new\n")]


def test_secrets_stay_out_of_the_difference(files: ModuleType, tmp_path: Path) -> None:
    (change,) = files.keep_file(entry(tmp_path / "a", content="hush"), check=True)
    assert change["after"] == "hush"
    assert "hush" not in str(files.masked(change).values())


@pytest.mark.parametrize(
    ("state", "since", "expected"),
    [("active", -10, ["a.service"]), ("active", 0, []), ("inactive", -10, []), ("active", None, [])],
)
def test_a_unit_that_runs_since_before_its_file_was_written_is_told(
    files: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    state: str,
    since: int | None,
    expected: list[str],
) -> None:
    unit, systemctl = tmp_path / "a.service", tmp_path / "bin" / "systemctl"
    unit.write_text("[Service]\n")
    entered = "" if since is None else f"@{int(unit.stat().st_mtime) + since}"
    systemctl.parent.mkdir()
    systemctl.write_text(f"#!/bin/sh\necho ActiveState={state}\necho ActiveEnterTimestamp={entered}\n")
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", str(systemctl.parent), prepend=":")
    assert [files.name(change) for change in files.older(unit)] == expected
