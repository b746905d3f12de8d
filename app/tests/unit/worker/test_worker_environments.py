"""Environments that a worker keeps: made once, whole or not at all, removed when nobody uses them."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest

from labfleet.worker import rpackages
from labfleet.worker.environments import Environments
from labfleet.worker.preparing import key_of
from labfleet.worker.rpackages import MissingPackages, versions


def never() -> None:
    pytest.fail("it waited")


def make(size: int = 10) -> Any:
    def fill(directory: Path) -> dict[str, Any]:
        (directory / "file").write_text("x")
        return {"bytes": size, "packages": {"numpy": "1"}}

    return fill


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir() if not path.name.endswith(".lock")}


def test_made_once(tmp_path: Path) -> None:
    kept = Environments(tmp_path / "e", 100)
    first = kept.obtain("a", make(), never)
    second = kept.obtain("a", lambda directory: pytest.fail("made twice"), never)

    assert first.path == second.path
    assert (first.path / "file").read_text() == "x"
    assert second.description["packages"] == {"numpy": "1"}
    assert (tmp_path / "e").stat().st_mode & 0o777 == 0o700


def test_what_can_not_be_made_leaves_nothing(tmp_path: Path) -> None:
    def fail(directory: Path) -> dict[str, Any]:
        (directory / "half").mkdir()
        (directory / "half").chmod(0)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        Environments(tmp_path, 100).obtain("a", fail, never)
    assert names(tmp_path) == set()
    assert Environments(tmp_path, 100).obtain("a", make(), never).path.exists()


def test_others_wait_and_the_end_of_the_maker_lets_the_next_begin(tmp_path: Path) -> None:
    begun, go = threading.Event(), threading.Event()

    def slow(directory: Path) -> dict[str, Any]:
        begun.set()
        assert go.wait(30)
        raise RuntimeError

    def first() -> None:
        with pytest.raises(RuntimeError):
            Environments(tmp_path, 100).obtain("a", slow, never)

    thread = threading.Thread(target=first)
    thread.start()
    assert begun.wait(30)
    waits = []

    def wait() -> None:
        waits.append(names(tmp_path))
        go.set()
        thread.join(0.1)

    found = Environments(tmp_path, 100).obtain("a", make(), wait)
    thread.join()
    assert waits[0] == {"a.unfinished"}
    assert found.path == tmp_path / "a/content"


def test_the_one_used_longest_ago_goes_first(tmp_path: Path) -> None:
    kept = Environments(tmp_path, 25)
    for key, used in (("a", 3), ("b", 1), ("c", 2)):
        kept.obtain(key, make(), never).release()
        os.utime(tmp_path / key / "environment.json", (used, used))
    assert names(tmp_path) == {"a", "c"}  # b, when c came
    kept.obtain("d", make(), never).release()
    assert names(tmp_path) == {"a", "d"}
    assert {path.name for path in tmp_path.glob("*.lock")} == {"a.lock", "d.lock"}


def test_what_is_used_stays(tmp_path: Path) -> None:
    kept = Environments(tmp_path, 5)
    used = kept.obtain("a", make(), never)
    os.utime(tmp_path / "a/environment.json", (1, 1))
    kept.obtain("b", make(), never).release()
    assert names(tmp_path) == {"a", "b"}
    used.release()
    kept.obtain("c", make(), never)
    assert names(tmp_path) == {"c"}


def test_what_a_killed_process_left_is_swept_and_what_is_being_made_is_not(tmp_path: Path) -> None:
    (tmp_path / "a.unfinished/content").mkdir(parents=True)

    def look(directory: Path) -> dict[str, Any]:
        Environments(tmp_path).sweep()
        assert directory.exists()
        assert names(tmp_path) == {"b.unfinished"}
        return {"bytes": 1, "packages": {}}

    Environments(tmp_path, 10).obtain("b", look, never)
    assert names(tmp_path) == {"b"}
    Environments(tmp_path / "none").sweep()


def test_the_key_depends_on_the_lock_file() -> None:
    one = key_of("python", "a.lock", b"x")
    others = {
        key_of("python", "a.lock", b"y"),
        key_of("python", "pylock.toml", b"x"),
        key_of("r", "a.lock", b"x"),
    }
    assert len({one} | others) == 4
    assert one == key_of("python", "other.txt", b"x")


def test_a_library_is_that_of_the_machine_s_r(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = set()
    for version in ("4.2.2", "4.5.0"):
        monkeypatch.setattr(rpackages, "r_version", lambda version=version: version)
        keys |= {key_of("r", "renv.lock", b"x"), key_of("r", "other.lock", b"x")}
    assert len(keys) == 2


def test_r_packages(tmp_path: Path) -> None:
    site, base = tmp_path / "site", tmp_path / "base"
    (site / "limma").mkdir(parents=True)
    (site / "limma/DESCRIPTION").write_text("Package: limma\nVersion: 3.54.0\n")
    (base / "limma").mkdir(parents=True)
    (base / "limma/DESCRIPTION").write_text("Version: 1\n")
    (base / "stats").mkdir()
    (base / "stats/DESCRIPTION").write_text("Version: 4.2.2\n")
    libraries = (str(site), str(base))

    assert versions(["limma", "stats"], "w1", libraries) == {"limma": "3.54.0", "stats": "4.2.2"}
    with pytest.raises(MissingPackages) as caught:
        versions(["limma", "WGCNA"], "w1", libraries)
    for word in ("w1", "WGCNA", "r-cran-wgcna", "r-bioc-wgcna", "worker_packages"):
        assert word in str(caught.value)
    assert "limma" not in str(caught.value)
