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


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_path_of_the_controller(path: Path) -> None:
    entries = yaml.safe_load(path.read_text(encoding="utf-8")) or []
    wrong = [
        task.get("name")
        for task, local in tasks(entries, here=False)
        if not local and any(name in given(task) for name in ON_THE_CONTROLLER)
    ]
    assert wrong == []
