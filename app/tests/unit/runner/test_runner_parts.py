"""The runner's small parts by themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from labfleet.config import PublisherSection, RunnerSection
from labfleet.names import is_key, is_worker
from labfleet.runner.lean import dumps, loads
from labfleet.runner.limits import DEFAULTS, section
from labfleet.runner.messages import TASK_NAME, outgoing

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
TASK = "0c2e4a3e-6f64-4a1b-9c55-0a4a4e1b7d11"


@given(VALUES)
def test_the_lean_json_is_json(value: Any) -> None:
    assert loads(json.dumps(value, indent=1)) == value
    assert json.loads(dumps(value)) == value


@given(st.text())
def test_what_json_refuses_is_refused(text: str) -> None:
    try:
        expected = json.loads(text, parse_constant=_no_constant)
    except ValueError:
        with pytest.raises(ValueError, match=r"."):
            loads(text)
    else:
        assert loads(text) == expected


def _no_constant(name: str) -> None:
    raise ValueError(name)


def test_what_has_no_json_is_an_error() -> None:
    with pytest.raises(TypeError):
        dumps({"a": {1, 2}})


def test_the_defaults_are_those_of_the_configuration() -> None:
    model = RunnerSection()
    assert {name: str(value) for name, value in DEFAULTS.items()} == {
        "socket": str(model.socket),
        "timeout_seconds": f"{model.timeout_seconds:g}",
        "max_body_bytes": str(model.max_body_bytes),
        "max_batch": str(model.max_batch),
    }


@pytest.mark.parametrize(
    "text",
    [
        '[runner]\nsocket = "/a"\nmax_batch = 7\ntimeout_seconds = 1.5\n[publisher]\nmax_batch = 1\n',
        '# hello\n[log]\nmax_batch = 1\n[runner]\n# no\nsocket="/a"\n\nmax_batch=7\ntimeout_seconds=1.5',
        "[runner]\nsocket = '/a'\nmax_batch = 7 # few\ntimeout_seconds = 1.5\n",
        'runner.socket = """/a"""\nrunner.max_batch = 7\nrunner.timeout_seconds = 1.5\n',
        '[runner]\nsocket = "\\u002fa"\nmax_batch = 7\ntimeout_seconds = 1.5\n',
    ],
)
def test_the_file_is_read_like_toml(text: str) -> None:
    assert section(text) == {"socket": "/a", "max_batch": 7, "timeout_seconds": 1.5}


@pytest.mark.parametrize(
    ("key", "good"),
    [
        ("r", True),
        ("r.big-1", True),
        ("r.worker", True),
        ("workers", True),
        ("R", False),
        ("a b", False),
        ("worker", False),
        ("worker.w1", False),
    ],
)
def test_keys(key: str, good: bool) -> None:
    assert is_key(key) is good


@pytest.mark.parametrize(
    ("name", "good"), [("w1", True), ("GPU_1.lab-a.org", True), ("w 1", False), ("w.", False), ("w*", False)]
)
def test_names_of_workers(name: str, good: bool) -> None:
    assert is_worker(name) is good


def test_a_configuration_has_no_other_names() -> None:
    assert PublisherSection(keys=["r.big"], workers=["Node-1.lab"]).workers == ["Node-1.lab"]
    for wrong in ({"keys": ["worker.w1"]}, {"keys": ["R"]}, {"workers": ["a b"]}, {"workers": ["w.#"]}):
        with pytest.raises(ValidationError):
            PublisherSection.model_validate(wrong)


def test_a_task_is_written_in_celerys_words() -> None:
    message = {"task": TASK, "attempt": 2, "key": "r.big", "token": "la_secret"}

    item = outgoing("schedule", "web", message)

    args, kwargs, _ = json.loads(item.message.body)
    headers = item.message.properties["application_headers"]
    assert (item.exchange, item.routing_key) == ("labfleet.tasks", "r.big")
    assert (args, kwargs) == ([], {"front_end": "web", **message})
    assert (headers["task"], headers["id"]) == (TASK_NAME, f"{TASK}.2")
    assert item.message.properties["content_type"] == "application/json"
    assert item.message.properties["delivery_mode"] == 2
    assert item.result("confirmed") == {"task": TASK, "attempt": 2, "status": "confirmed"}


def test_a_named_worker_is_the_address_and_no_argument() -> None:
    message = {"task": TASK, "attempt": 2, "key": "r.big", "token": "la_secret"}

    item = outgoing("schedule", "web", {**message, "worker": "Node-1.lab"})

    assert (item.exchange, item.routing_key) == ("labfleet.tasks", "worker.Node-1.lab")
    assert json.loads(item.message.body)[1] == {"front_end": "web", **message}


def test_the_token_is_in_the_body_only() -> None:
    item = outgoing("schedule", "web", {"task": TASK, "attempt": 1, "key": "r", "token": "la_secret"})

    assert "la_secret" not in repr(item.message.properties)


def test_a_cancel_is_plain_json() -> None:
    item = outgoing("cancel", "web", {"task": TASK, "attempt": 2})

    assert item.exchange == "labfleet.control"
    assert json.loads(item.message.body) == {"front_end": "web", "task": TASK, "attempt": 2}


def test_the_program_is_small(tmp_path: Path) -> None:
    """What runs for each request stays readable at one sitting."""
    room = Path(str(__import__("labfleet.runner").runner.__file__)).parent
    modules = ("cgi", "request", "frontends", "handover", "lean", "limits", "problem", "shape", "../names")
    assert sum(len((room / f"{name}.py").read_text().splitlines()) for name in modules) < 620
