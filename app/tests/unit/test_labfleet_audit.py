"""What the audit of rights finds in a tree of files, and what it passes over."""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType

import pytest
from by_path import load


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    return load("library/labfleet_audit.py")


def made(folder: Path, name: str, mode: int, directory: bool = False) -> Path:
    path = folder / name
    path.mkdir() if directory else path.write_text("x")
    path.chmod(mode)
    return path


def found(audit: ModuleType, folder: Path, skipped: list[str] | None = None) -> dict[str, list[str]]:
    """Faults by the name of the file."""
    owners, faults = audit.Owners(), {}
    for path, status in audit.walk(str(folder), {}, skipped or []):
        said = [fault for fault, _ in audit.faults(path, status, owners)]
        faults[Path(path).name] = said
    return faults


@pytest.mark.parametrize(
    ("mode", "directory", "said"),
    [
        (0o4755, False, ["runs as its owner (setuid)"]),
        (0o2755, False, ["runs as its group (setgid)"]),
        (0o2644, False, []),
        (0o0666, False, ["may be written to by everybody"]),
        (0o0777, True, ["may be written to by everybody"]),
        (0o1777, True, []),
        (0o2775, True, []),
        (0o0755, False, []),
    ],
)
def test_modes(audit: ModuleType, tmp_path: Path, mode: int, directory: bool, said: list[str]) -> None:
    made(tmp_path, "it", mode, directory)
    assert found(audit, tmp_path) == {"it": said}


def test_links_are_not_followed(audit: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path)
    assert found(audit, tmp_path) == {}


def test_other_file_systems_and_what_is_skipped(audit: ModuleType, tmp_path: Path) -> None:
    for name in ("remote", "left"):
        made(tmp_path, name, 0o755, directory=True)
        made(tmp_path / name, "file", 0o666)
    walked = audit.walk(str(tmp_path), {str(tmp_path / "remote"): "nfs4"}, [str(tmp_path / "left")])
    assert list(walked) == []


def test_files_of_nobody(audit: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "passwd").write_text("root:x:0:0:::\n")
    (tmp_path / "group").write_text("root:x:0:\n")
    owners = audit.Owners(str(tmp_path / "passwd"), str(tmp_path / "group"))
    fields = list((tmp_path / "passwd").stat())
    fields[4], fields[5] = 4711, 0
    assert list(audit.faults("/none", os.stat_result(fields), owners)) == [
        ("belongs to nobody (4711:0)", "allowed")
    ]
    fields[4] = 0
    assert list(audit.faults("/none", os.stat_result(fields), owners)) == []


def test_mounts(audit: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "mounts").write_text("a / ext4 rw 0 0\nb /my\\040disk nfs rw 0 0\n")
    assert audit.mounts(str(tmp_path / "mounts")) == {"/": "ext4", "/my disk": "nfs"}
