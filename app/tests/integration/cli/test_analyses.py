"""`labfleet analyses` against a server."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


@pytest.fixture
def saved(signed_in: Run, tmp_path: Path) -> str:
    """The address of settings with a file of ours and two values of a parameter."""
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    made = signed_in(
        *("analyses", "save", "often used", "table-summary", "-i", "table=@table.csv"),
        *("-p", "delimiter=comma", "--sweep", "top=3,5"),
    )
    assert made.code == 0, made.err
    return str(made.out.strip())


def test_settings_are_saved_listed_and_shown(signed_in: Run, saved: str) -> None:
    (listed,) = json.loads(signed_in("analyses", "list", "--json").out)
    assert (listed["name"], listed["address"]) == ("often used", saved)
    assert listed["sweep"] == {"parameters.top": [3, 5]}
    assert "often used" in signed_in("analyses").out
    assert "No saved settings" in signed_in("analyses", "list", "--protocol", "other").err
    shown = signed_in("analyses", "show", saved).out
    assert f"\n{saved}\n" in shown and shown.startswith("often used of ")
    assert "  parameters.delimiter: comma\n" in shown and "  parameters.top: each of [3, 5]\n" in shown
    assert f"  inputs.table: {listed['inputs']['table']}\n" in shown
    assert json.loads(signed_in("analyses", "show", listed["id"], "--json").out) == listed


def test_jobs_are_submitted_of_them(signed_in: Run, saved: str) -> None:
    assert signed_in("analyses", "submit", saved, "--dry-run").out.startswith("2 tasks of 1 protocol")
    job = json.loads(signed_in("analyses", "submit", saved, "--json").out)
    assert (job["label"], [task["parameters"]["top"] for task in job["tasks"]]) == ("often used", [3, 5])
    other = signed_in("analyses", "submit", saved, "-p", "top=7", "--label", "seven", "--hold", "--json")
    assert [task["parameters"]["top"] for task in json.loads(other.out)["tasks"]] == [7]
    assert (json.loads(other.out)["label"], json.loads(other.out)["held"]) == ("seven", True)


def test_they_are_deleted(signed_in: Run, saved: str) -> None:
    name = saved.rpartition("/")[2]
    assert signed_in("analyses", "delete", saved).out == f"Analysis {name}: deleted.\n"
    gone = signed_in("analyses", "show", saved)
    assert gone.code == 1 and f"There are no settings {name}" in gone.err


def test_lists_of_values(signed_in: Run) -> None:
    command = ("analyses", "save", "lists", "table-summary", "--json")
    made = json.loads(signed_in(*command, "--sweep", 'missing=[["-"], ["NA"]]').out)
    assert made["sweep"] == {"parameters.missing": [["-"], ["NA"]]}
    wrong = signed_in(*command, "--sweep", "top")
    assert (wrong.code, wrong.err.splitlines()[0]) == (1, "Error: --sweep top: no values.")
    slot = signed_in(*command, "--sweep", "table=x,y")
    assert slot.code == 1 and "'x' is no dataset" in slot.err
