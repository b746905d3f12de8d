"""Jobs in files, and the lines of what a server says of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from labfleet.cli.client import ServerProblem
from labfleet.cli.jobfile import InvalidJobFile, JobFile, is_file_name, read_job_file
from labfleet.errors import Invalid

TEXT = """\
tree:
  sequential:
    - task: a
      protocol: p
      inputs: {x: 1}
    - task: b
      protocol: p
      parameters:
        top: 3
      sweep:
        grid:
          parameters.top: [1, 2]
"""


def written(tmp_path: Path, text: str) -> JobFile:
    path = tmp_path / "job.yaml"
    path.write_text(text, encoding="utf-8")
    return read_job_file(str(path))


def problem(status: int = 422, **document: Any) -> ServerProblem:
    return ServerProblem(httpx.Response(status, json={"detail": "told", **document}))


@pytest.mark.parametrize(
    ("path", "message", "code", "line"),
    [
        ("tree.sequential.0.protocol", "m", "x", 4),
        ("tree.sequential.1.sweep.grid.parameters.top", "m", "x", 12),
        ("tree.sequential.1.sweep.grid.parameters.top.1", "m", "x", 12),
        ("tree.sequential.1.sweep, point 1", "m", "x", 10),
        ("tree.sequential.1.parameters.top", "m", "invalid_parameters", 9),
        ("tree.sequential.1.version", "Field required", "x", 6),
        ("tree.sequential.9", "m", "x", 2),
        ("tree.sequential.0", "no protocol 'p'", "unknown_protocol", 4),
        ("tree.sequential.0.inputs", "x: neither a dataset's id nor …", "invalid_inputs", 5),
        ("job", "write either", "x", 1),
    ],
)
def test_a_path_leads_to_a_line(tmp_path: Path, path: str, message: str, code: str, line: int) -> None:
    file = written(tmp_path, TEXT)
    told = file.blame(problem(code="invalid_job", errors=[{"path": path, "message": message, "code": code}]))
    assert told is not None
    assert [fault.line for fault in told.faults] == [line]
    assert told.detail.startswith(f"{file.name}:{line}: ")


def test_a_point_that_is_written_out_has_a_line_of_its_own(tmp_path: Path) -> None:
    text = "tree:\n  sweep:\n    list:\n      - parameters: {top: 1}\n      - parameters: {top: 2}\n"
    errors = [{"path": "tree.sweep, point 1", "message": "m"}]
    told = written(tmp_path, text).blame(problem(errors=errors))
    assert told is not None and told.faults[0].line == 5


def test_a_complaint_of_something_else_is_no_fault_of_the_file(tmp_path: Path) -> None:
    file = written(tmp_path, TEXT)
    assert file.blame(problem(401, code="unauthorized")) is None
    assert file.blame(problem(403, code="forbidden")) is None
    unknown = file.blame(problem(404, code="unknown_protocol"))
    assert unknown is not None


def test_json_keeps_its_numbers_and_gets_lines(tmp_path: Path) -> None:
    value = {"protocol": "p", "parameters": {"small": 1e-05, "large": 1e22, "text": "ü"}}
    for indent in (None, 2, "\t"):
        file = written(tmp_path, json.dumps(value, indent=indent))
        assert file.spec == value
    assert file.document.line(("parameters", "large")) == 5


def test_json_may_have_letters_in_two_halves(tmp_path: Path) -> None:
    value = {"protocol": "p", "label": "\U0001f9ec"}
    assert written(tmp_path, json.dumps(value)).spec == value


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"a": ' * 20_000, "levels"),
        ('{"a": "\\ud83e"', "job.yaml:1: "),
        ("a: 1\na: 2\n", "job.yaml:2: The key 'a' stands here twice."),
        ("a: &x 1\nb: *x\n", "job.yaml:2: YAML aliases"),
        ("a: 2026-01-01\n", "job.yaml:1: a: a date is no plain text"),
        (" \n", "the file is empty"),
        ("just text", "job.yaml:1: a job is a mapping"),
    ],
)
def test_what_can_not_be_read(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(InvalidJobFile) as caught:
        written(tmp_path, text)
    assert told in caught.value.detail


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="can't be read"):
        read_job_file(str(tmp_path / "none.yaml"))


@pytest.mark.parametrize(
    ("text", "is_file"),
    [
        ("table-summary", False),
        ("-", True),
        ("job.yaml", True),
        ("./job", True),
        ("a/b", True),
        ("job", False),
    ],
)
def test_what_names_a_file(text: str, is_file: bool) -> None:
    assert is_file_name(text) is is_file
