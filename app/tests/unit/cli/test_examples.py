"""The examples of docs/scientist/jobs.md are what can be submitted."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from labfleet.config import JobsSection
from labfleet.jobs import spec, verbs
from labfleet.jobs.layout import lay_out
from labfleet.jobs.states import State
from labfleet.protocols.yamlfile import read_yaml

PAGE = (Path(__file__).parents[4] / "docs/scientist/jobs.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
TASKS = [1, 3, 7, 2, 3, 5, 1, 1]


def test_every_example_is_known() -> None:
    assert len(EXAMPLES) == len(TASKS)


@pytest.mark.parametrize(("example", "tasks"), list(zip(EXAMPLES, TASKS, strict=True)))
def test_an_example_is_a_job_of_so_many_tasks(example: str, tasks: int) -> None:
    wanted = spec.read(read_yaml(example.encode(), "jobs.md").value)
    _, leaves = lay_out(wanted, JobsSection())
    assert sum(leaf.size for leaf in leaves) == tasks


def test_every_field_of_a_job_is_shown() -> None:
    shown = set(re.findall(r"^([a-z]+):", "\n".join(EXAMPLES), re.MULTILINE))
    assert shown == set(spec.JobSpec.model_fields)


def test_every_verb_and_every_state_is_told() -> None:
    section = PAGE.partition("\n## Verbs\n")[2].partition("\n## ")[0]
    told = set(re.findall(r"^\| `([a-z-]+)` \|", section, re.MULTILINE))
    assert told == verbs.JOB_VERBS.keys() | {"change", "resubmit"}
    assert all(f"{state}" in PAGE for state in State)
