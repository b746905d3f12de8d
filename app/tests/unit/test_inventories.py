"""Inventories to copy: each gives every tier a machine, and names no group that nobody knows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = sorted(path.parent for path in (ROOT / "inventory").glob("**/hosts.yml"))
SETTINGS = yaml.safe_load((ROOT / "group_vars" / "all.yml").read_text(encoding="utf-8"))


@pytest.fixture(params=EXAMPLES, ids=lambda path: str(path.relative_to(ROOT / "inventory")))
def groups(request: pytest.FixtureRequest) -> dict[str, Any]:
    command = [str(Path(sys.executable).parent / "ansible-inventory"), "-i", str(request.param), "--list"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    listed: dict[str, Any] = json.loads(told.stdout)
    return listed


def test_there_are_examples_to_copy() -> None:
    names = {path.name for path in EXAMPLES if path.parent.name == "example"}
    assert names == {"one", "tiers", "standby", "fleet"}


def test_every_tier_has_a_machine(groups: dict[str, Any]) -> None:
    for tier in SETTINGS["labfleet_required_groups"]:
        assert groups[tier]["hosts"], tier


def test_no_group_is_unknown(groups: dict[str, Any]) -> None:
    assert set(groups) - {"_meta", "all", "ungrouped"} <= set(SETTINGS["labfleet_known_groups"])
