"""Playbooks hand machines paths of machines: those of the controller mean nothing there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
FILES = sorted(
    [*(ROOT / "playbooks").glob("*.yml"), *(ROOT / "playbooks" / "tasks").glob("*.yml")],
    key=lambda path: path.name,
)
ON_THE_CONTROLLER = ("labfleet_tls_directory", "labfleet_secrets_directory")
BLOCKS = ("block", "rescue", "always")
LISTS = ("pre_tasks", "tasks", "post_tasks", "handlers")


def tasks(entries: list[dict[str, Any]], here: bool) -> Iterator[tuple[dict[str, Any], bool]]:
    """Each task of plays and blocks, and whether it runs on the controller."""
    for entry in entries:
        local = "localhost" in {entry.get("hosts"), entry.get("delegate_to")} or (
            here and not {"hosts", "delegate_to"} & entry.keys()
        )
        below = [name for name in (*LISTS, *BLOCKS) if name in entry]
        for name in below:
            yield from tasks(entry[name] or [], local)
        if not below:
            yield entry, local


def given(task: dict[str, Any]) -> str:
    """The arguments of the task's module; actions that the controller evaluates by itself left out."""
    evaluated = ("ansible.builtin.assert", "ansible.builtin.debug", "ansible.builtin.set_fact")
    return json.dumps(
        [value for key, value in task.items() if "." in key and key not in evaluated], default=str
    )


def plays(name: str) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = yaml.safe_load((ROOT / "playbooks" / name).read_text(encoding="utf-8"))
    return [entry for entry in entries if "hosts" in entry]


@pytest.mark.parametrize("name", ["update.yml", "rollback.yml", "rotate_secrets.yml"])
def test_what_stops_the_dispatcher_starts_it_first_after_a_run_that_was_cut_off(name: str) -> None:
    first = plays(name)[0]
    assert first["hosts"] == "webserver"
    assert [task["ansible.builtin.include_tasks"] for task in first["tasks"]] == ["tasks/taken_up.yml"]


@pytest.mark.parametrize("name", ["update.yml", "rollback.yml"])
def test_what_has_begun_ends_on_the_same_machines(name: str) -> None:
    """Begun before anything is switched, and ended after all that switches."""
    seen = [
        (number, set(play["hosts"].split(":")), task["labfleet_release"]["state"])
        for number, play in enumerate(plays(name))
        for task, _ in tasks([play], here=False)
        if task.get("labfleet_release", {}).get("state")
    ]
    (begin, begun_on, begun), (end, ended_on, ended) = seen
    assert (begun, ended) == ("begun", "ended")
    assert begun_on == ended_on == {"webserver", "queue", "worker"}
    switching = [
        number
        for number, play in enumerate(plays(name))
        if any(
            word in json.dumps(play)
            for word in ("release_restored", '["configure", "run"]', '"configure", "run"')
        )
    ]
    assert begin < min(switching)
    assert max(switching) < end


@pytest.mark.parametrize("name", ["queue.yml", "webserver.yml", "worker.yml"])
def test_a_tier_that_is_deployed_is_half_way_no_more(name: str) -> None:
    states = [task.get("labfleet_release", {}).get("state") for task, _ in tasks(plays(name), here=False)]
    assert states.count("ended") == 1


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_path_of_the_controller(path: Path) -> None:
    entries = yaml.safe_load(path.read_text(encoding="utf-8")) or []
    wrong = [
        task.get("name")
        for task, local in tasks(entries, here=False)
        if not local and any(name in given(task) for name in ON_THE_CONTROLLER)
    ]
    assert wrong == []
