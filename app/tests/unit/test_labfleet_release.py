from __future__ import annotations

import json
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from by_path import load


@pytest.fixture(scope="module")
def library() -> ModuleType:
    return load("library/labfleet_release.py")


@pytest.fixture
def releases(library: ModuleType, tmp_path: Path) -> Any:
    """A machine with two releases, the first of them current, and a file of its configuration."""
    for name in ("1.0.0-aaa", "1.1.0-bbb"):
        folder = tmp_path / "releases" / name
        folder.mkdir(parents=True)
        (folder / "release.json").write_text("{}")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "web.toml").write_text("old")
    made = library.Releases(tmp_path, [f"{tmp_path}/etc/*.toml"])
    made.switch("1.0.0-aaa", check=False)
    return made


def test_the_first_release_has_nothing_before_it(releases: Any) -> None:
    assert (releases.current, releases.previous) == ("1.0.0-aaa", "")
    with pytest.raises(ValueError, match="no previous release"):
        releases.restore("", check=False)


def test_a_switch_keeps_what_the_old_one_ran_with(releases: Any, tmp_path: Path) -> None:
    assert releases.switch("1.1.0-bbb", check=False) == "1.1.0-bbb"
    assert (releases.current, releases.previous) == ("1.1.0-bbb", "1.0.0-aaa")
    kept = json.loads(releases.kept("1.0.0-aaa").read_text())
    assert kept[f"{tmp_path}/etc/web.toml"]["content"] == "old"
    assert releases.kept("1.0.0-aaa").stat().st_mode & 0o777 == 0o600


def test_a_second_switch_keeps_nothing_anew(releases: Any, tmp_path: Path) -> None:
    releases.switch("1.1.0-bbb", check=False)
    (tmp_path / "etc" / "web.toml").write_text("new")
    releases.switch("1.1.0-bbb", check=False)
    assert "old" in releases.kept("1.0.0-aaa").read_text()


def test_going_back_brings_the_files_of_then(releases: Any, tmp_path: Path) -> None:
    releases.switch("1.1.0-bbb", check=False)
    (tmp_path / "etc" / "web.toml").write_text("new")
    (tmp_path / "etc" / "more.toml").write_text("new")
    name, written = releases.restore("", check=False)
    assert name == releases.current == "1.0.0-aaa"
    assert sorted(written) == [f"{tmp_path}/etc/more.toml", f"{tmp_path}/etc/web.toml"]
    assert (tmp_path / "etc" / "web.toml").read_text() == "old"
    assert not (tmp_path / "etc" / "more.toml").exists()
    assert releases.previous == ""


def test_going_back_leaves_alone_what_is_the_same(releases: Any, tmp_path: Path) -> None:
    """A socket whose file is newer than itself would restart at the next update, and lose requests."""
    same = tmp_path / "etc" / "same.toml"
    same.write_text("same")
    os.utime(same, (1000, 1000))
    releases.switch("1.1.0-bbb", check=False)
    (tmp_path / "etc" / "web.toml").write_text("new")
    releases.restore("", check=False)
    assert same.stat().st_mtime == 1000


def test_going_back_changes_nothing_in_check_mode(releases: Any, tmp_path: Path) -> None:
    releases.switch("1.1.0-bbb", check=False)
    (tmp_path / "etc" / "web.toml").write_text("new")
    assert releases.restore("", check=True)[1] == [f"{tmp_path}/etc/web.toml"]
    assert releases.current == "1.1.0-bbb"
    assert (tmp_path / "etc" / "web.toml").read_text() == "new"


def test_back_to_where_it_is_changes_nothing(releases: Any) -> None:
    assert releases.restore("1.0.0-aaa", check=False) == ("1.0.0-aaa", [])


def test_no_switch_to_half_a_release(releases: Any, tmp_path: Path) -> None:
    (tmp_path / "releases" / "1.1.0-bbb" / "release.json").unlink()
    with pytest.raises(ValueError, match="not installed completely"):
        releases.switch("1.1.0-bbb", check=False)
    assert releases.current == "1.0.0-aaa"


def test_no_way_back_to_what_is_gone(releases: Any, tmp_path: Path) -> None:
    releases.switch("1.1.0-bbb", check=False)
    (tmp_path / "releases" / "1.0.0-aaa" / "release.json").unlink()
    assert releases.previous == ""
    with pytest.raises(ValueError, match="not here any more"):
        releases.restore("1.0.0-aaa", check=False)


def test_an_update_that_was_cut_off_knows_what_ran_before_it(releases: Any) -> None:
    assert (releases.origin, releases.back) == ("1.0.0-aaa", "")
    assert releases.begin("update", "1.1.0-bbb", check=False)
    releases.switch("1.1.0-bbb", check=False)
    assert releases.current == "1.1.0-bbb"
    assert (releases.origin, releases.back) == ("1.0.0-aaa", "1.0.0-aaa")
    assert not releases.begin("update", "1.1.0-bbb", check=False)
    assert releases.end(check=False)
    assert (releases.origin, releases.begun) == ("1.1.0-bbb", {})
    assert not releases.end(check=False)


def test_a_machine_that_the_update_had_not_come_to_stays_in_a_rollback(releases: Any) -> None:
    releases.begin("update", "1.1.0-bbb", check=False)
    assert releases.back == releases.current == "1.0.0-aaa"


def test_a_rollback_that_was_cut_off_goes_on_to_where_it_went(releases: Any) -> None:
    releases.switch("1.1.0-bbb", check=False)
    releases.begin("rollback", releases.back, check=False)
    releases.restore("", check=False)
    assert (releases.current, releases.previous) == ("1.0.0-aaa", "")
    assert releases.back == "1.0.0-aaa"
    assert releases.restore(releases.back, check=False) == ("1.0.0-aaa", [])


def test_an_update_that_is_undone_leaves_the_way_back_from_before_it(releases: Any, tmp_path: Path) -> None:
    releases.switch("1.1.0-bbb", check=False)
    folder = tmp_path / "releases" / "1.2.0-ccc"
    folder.mkdir()
    (folder / "release.json").write_text("{}")
    for _ in range(2):  # the second one goes on with a run that was cut off
        releases.begin("update", "1.2.0-ccc", check=False)
        releases.switch("1.2.0-ccc", check=False)
    releases.restore(releases.origin, check=False)
    releases.end(check=False)
    assert (releases.current, releases.previous) == ("1.1.0-bbb", "1.0.0-aaa")
    releases.begin("rollback", releases.back, check=False)
    releases.restore(releases.back, check=False)
    releases.end(check=False)
    assert (releases.current, releases.previous, releases.back) == ("1.0.0-aaa", "", "")


def test_where_there_is_no_way_back_any_more_it_leads_nowhere(releases: Any) -> None:
    releases.begin("update", "1.1.0-bbb", check=False)
    releases.switch("1.1.0-bbb", check=False)
    releases.kept("1.0.0-aaa").unlink()
    assert (releases.origin, releases.back) == ("1.1.0-bbb", "")


def test_check_mode_begins_and_ends_nothing(releases: Any) -> None:
    assert releases.begin("update", "1.1.0-bbb", check=True)
    assert releases.begun == {}
    releases.begin("update", "1.1.0-bbb", check=False)
    assert releases.end(check=True)
    assert releases.begun["from"] == "1.0.0-aaa"
    with pytest.raises(ValueError, match="say what begins"):
        releases.begin("", "1.1.0-bbb", check=False)
