"""Wheels of a lab's own in a release: whose hash is right, which run on the node, and find what they need."""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from by_path import load
from package_index import wheel

LOCKED = ["httpx==0.28.1 --hash=sha256:00", "idna==3.10 --hash=sha256:00"]


@pytest.fixture(scope="module")
def program() -> ModuleType:
    return load("roles/app/files/build_release.py")


@pytest.fixture
def options(tmp_path: Path) -> argparse.Namespace:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "labfleet"\nversion = "1.2.3"\n')
    for name in ("uv.lock", "README.md"):
        (tmp_path / name).touch()
    return argparse.Namespace(
        source=tmp_path,
        python_version="3.11",
        architecture="x86_64",
        extras="web",
        development=False,
        handlers=[],
    )


def named(folder: Path, name: str, version: str = "1.0", **more: Any) -> dict[str, str]:
    """As `app_source_handlers` names it."""
    file, content = wheel(name, version, **more)
    (folder / file).write_bytes(content)
    return {"wheel": str(folder / file), "sha256": hashlib.sha256(content).hexdigest()}


def test_they_are_a_part_of_the_release_s_name(
    program: ModuleType, options: argparse.Namespace, tmp_path: Path
) -> None:
    without = program.digest(options)
    options.handlers = [named(tmp_path, "plates-handler"), named(tmp_path, "aaa")]
    one = program.digest(options)
    options.handlers.reverse()
    assert program.digest(options) == one != without
    assert [each.name for each in program.own_wheels(options)] == ["aaa", "plates-handler"]
    options.handlers = [named(tmp_path, "plates-handler", "1.1")]
    assert program.digest(options) not in {one, without}


def test_another_file_than_was_looked_at_is_refused(
    program: ModuleType, options: argparse.Namespace, tmp_path: Path
) -> None:
    told = named(tmp_path, "plates-handler")
    Path(told["wheel"]).write_bytes(b"another")
    options.handlers = [told]
    with pytest.raises(SystemExit, match=f"app_source_handlers says {told['sha256']}"):
        program.own_wheels(options)
    Path(told["wheel"]).unlink()
    with pytest.raises(SystemExit, match="There is no file"):
        program.own_wheels(options)


@pytest.mark.parametrize(
    ("tag", "good"),
    [
        ("py3-none-any", True),
        ("cp311-cp311-manylinux_2_17_x86_64", True),
        ("cp39-abi3-manylinux2014_x86_64", True),
        ("cp313-cp313-manylinux_2_17_x86_64", False),
        ("cp311-cp311-manylinux_2_38_x86_64", False),
        ("cp311-cp311-manylinux_2_17_aarch64", False),
        ("py2-none-any", False),
    ],
)
def test_it_runs_on_the_node(
    program: ModuleType, options: argparse.Namespace, tmp_path: Path, tag: str, good: bool
) -> None:
    options.handlers = [named(tmp_path, "plates-handler", tag=tag)]
    if good:
        assert len(program.own_wheels(options)) == 1
        return
    with pytest.raises(SystemExit, match=r"does not run on Python 3.11 of x86_64"):
        program.own_wheels(options)


@pytest.mark.parametrize(
    ("name", "requires", "fault"),
    [
        ("plates-handler", ("httpx>=0.28", "labfleet>=1"), None),
        ("plates-handler", ('colorama; sys_platform == "win32"', 'rich; extra == "color"'), None),
        ("plates-handler", ("beside",), None),
        ("plates-handler", ("httpx<0.28",), "needs httpx<0.28, and the release has 0.28.1"),
        ("plates-handler", ("labfleet>=2",), "needs labfleet>=2, and the release has 1.2.3"),
        ("plates-handler", ("numpy",), "needs numpy, which is not in the release: name its wheel"),
        ("HTTPX", (), "would take the place of httpx, which is a part of Labfleet"),
        ("labfleet", (), "would take the place of labfleet"),
    ],
)
def test_it_finds_what_it_needs(
    program: ModuleType,
    options: argparse.Namespace,
    tmp_path: Path,
    name: str,
    requires: tuple[str, ...],
    fault: str | None,
) -> None:
    options.handlers = [named(tmp_path, name, requires=requires), named(tmp_path, "beside")]
    own = program.own_wheels(options)
    if fault is None:
        program.check_needs(options, own, LOCKED)
        return
    with pytest.raises(SystemExit, match=fault):
        program.check_needs(options, own, LOCKED)


def test_two_of_one_name_are_refused(
    program: ModuleType, options: argparse.Namespace, tmp_path: Path
) -> None:
    options.handlers = [named(tmp_path, "plates-handler", "1.0"), named(tmp_path, "plates-handler", "2.0")]
    with pytest.raises(SystemExit, match="are the same package"):
        program.own_wheels(options)
