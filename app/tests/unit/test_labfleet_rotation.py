"""The files of secrets while they are changed, also by runs that break off."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from by_path import load

NOW = 1_800_000_000.0
DAY = 86400


@pytest.fixture(scope="module")
def library() -> ModuleType:
    return load("library/labfleet_rotation.py")


@pytest.fixture
def rotation(library: ModuleType, tmp_path: Path) -> Any:
    """Two secrets."""
    (tmp_path / "signing_key").write_text("old-key\n")
    (tmp_path / "broker").write_text("o" * 60 + "\n")
    return library.Rotation(tmp_path)


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_new_values_are_made_beside_the_old_ones(rotation: Any, tmp_path: Path) -> None:
    assert rotation.begin(["signing_key", "broker", "of-a-vault"], 48) == ["signing_key", "broker"]
    assert rotation.waiting() == ["broker", "signing_key"]
    assert (tmp_path / "signing_key").read_text() == "old-key\n"
    new = (tmp_path / "signing_key.next").read_text()
    assert new.strip().isalnum()
    assert len(new) == 49
    assert len((tmp_path / "broker.next").read_text()) == 61, "never shorter than the old one"
    assert (tmp_path / "signing_key.next").stat().st_mode & 0o777 == 0o600
    assert new != (tmp_path / "broker.next").read_text()


def test_a_new_value_that_is_there_may_be_in_use(rotation: Any, tmp_path: Path) -> None:
    rotation.begin(["broker"], 48)
    first = (tmp_path / "broker.next").read_text()
    assert rotation.begin(["broker", "signing_key"], 48) == ["signing_key"]
    assert (tmp_path / "broker.next").read_text() == first


def test_the_end_leaves_the_new_values_alone(rotation: Any, tmp_path: Path) -> None:
    rotation.begin(["broker"], 48)
    chosen = (tmp_path / "broker.next").read_text()
    assert rotation.end() == ["broker"]
    assert contents(tmp_path) == {"broker": chosen, "signing_key": "old-key\n"}
    assert rotation.end() == []


def test_old_keys_stay_good_for_their_days(rotation: Any, tmp_path: Path) -> None:
    file = tmp_path / "signing_key.old"
    for day in (0, 5, 9):
        rotation.begin(["signing_key"], 48)
        used = (tmp_path / "signing_key").read_text().strip()
        assert rotation.keep(["signing_key"], 8, NOW + day * DAY) == ["signing_key.old"]
        assert file.read_text().splitlines()[0] == f"{int(NOW + day * DAY)} {used}"
        rotation.end()
    assert "old-key" not in file.read_text()
    assert len(file.read_text().splitlines()) == 2
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_run_that_broke_off_lists_no_key_twice(rotation: Any, tmp_path: Path) -> None:
    rotation.begin(["signing_key"], 48)
    rotation.keep(["signing_key"], 8, NOW)
    assert rotation.keep(["signing_key"], 8, NOW + 60) == []
    assert (tmp_path / "signing_key.old").read_text() == f"{int(NOW)} old-key\n"


def test_no_days_forget_at_once(rotation: Any, tmp_path: Path) -> None:
    rotation.begin(["signing_key"], 48)
    assert rotation.keep(["signing_key"], 0, NOW) == []
    assert not (tmp_path / "signing_key.old").exists()
    rotation.keep(["signing_key"], 8, NOW)
    assert rotation.keep(["signing_key"], 0, NOW + 60) == ["signing_key.old"]
    assert not (tmp_path / "signing_key.old").exists()


def test_a_key_that_is_not_changed_is_not_listed(rotation: Any, tmp_path: Path) -> None:
    assert rotation.keep(["signing_key"], 8, NOW) == []
    assert not (tmp_path / "signing_key.old").exists()


def test_check_mode_answers_alike_and_writes_nothing(
    library: ModuleType, rotation: Any, tmp_path: Path
) -> None:
    checked = library.Rotation(tmp_path, check=True)
    before = contents(tmp_path)
    assert checked.begin(["broker"], 48) == ["broker"]
    assert contents(tmp_path) == before
    rotation.begin(["signing_key"], 48)
    before = contents(tmp_path)
    assert checked.keep(["signing_key"], 8, NOW) == ["signing_key.old"]
    assert checked.end() == ["signing_key"]
    assert contents(tmp_path) == before
