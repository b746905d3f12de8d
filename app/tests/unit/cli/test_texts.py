"""Small texts for people."""

from __future__ import annotations

import subprocess
import sys

import pytest
from click import Context
from click.testing import CliRunner

from labfleet.cli import ON_THE_SERVER, cli
from labfleet.cli.output import number_of, span_text, time_text
from labfleet.cli.submit import find_task


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.25, "0.2 s"), (1, "1 s"), (59.9, "59 s"), (60, "1 min"), (3661, "1 h 1 min"), (90061, "1 d 1 h")],
)
def test_lengths_of_time(seconds: float, text: str) -> None:
    assert time_text(seconds) == text


def test_how_long_it_took() -> None:
    assert span_text(None, None) == ""
    assert span_text("2026-01-01T10:00:00+00:00", "2026-01-01T11:30:00+01:00") == "30 min"


def test_numbers_of_things() -> None:
    assert [number_of(number, "task") for number in (0, 1, 2)] == ["0 tasks", "1 task", "2 tasks"]


def test_a_task_is_found_in_a_specification() -> None:
    inner = {"task": "b", "protocol": "p"}
    tree = {"sequential": [{"task": "a"}, {"parallel": [inner]}]}
    assert find_task(tree, "b") is inner
    assert find_task(tree, "c") is None
    assert find_task(None, "a") is None


def test_the_help_has_every_verb_in_a_section() -> None:
    shown = CliRunner().invoke(cli, ["--help"]).output
    sections = [line for line in shown.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert sections[1:3] == ["Submit and follow:", "Find and look:"]
    assert sections[-1] == f"{ON_THE_SERVER}:"
    verbs = {
        line.split()[0] for line in shown.splitlines() if line.startswith("  ") and not line[2].isspace()
    }
    assert set(cli.list_commands(Context(cli))) <= verbs


def test_a_verb_loads_its_own_room_only() -> None:
    """People wait for every import, and a shell loop over jobs waits as often as it goes round."""
    told = "import sys; sys.argv = ['labfleet', 'jobs', '--help']\nfrom labfleet.cli import main\n"
    told += "try: main()\nfinally: print('loaded', *sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    loaded = done.stderr.partition("loaded ")[2].split()
    assert "labfleet.cli.jobs" in loaded
    assert {"pydantic", "jsonschema", "sqlalchemy", "labfleet.cli.sources"}.isdisjoint(loaded)
