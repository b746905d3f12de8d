"""Terms that a protocol wants of its inputs: what lacks them is inapplicable before anything runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from protocol_archives import archive

from labfleet.db.models import User

INPUTS = (
    "\ninputs:\n  table: {title: Table, terms: [human, expression]}\n"
    "  other: {title: Other, optional: true, terms: [human]}\n"
    "outputs: {out: {path: out.txt, kind: text, title: Out}}"
)


@pytest.fixture
def api(caller: Callable[[User], Any], user: User) -> Any:
    """Ada's API, with a protocol `mine` that wants terms."""
    made = caller(user)
    answer = made("POST", "protocols", data=archive(extra=INPUTS), content_type="application/x-tar")
    assert answer.status_code == 201, answer.text
    return made


@pytest.fixture
def upload(api: Any) -> Callable[..., str]:
    """`upload(terms)`: the id of a new dataset with these terms."""

    def make(*terms: str) -> str:
        told = f"&terms={','.join(terms)}" if terms else ""
        made = api("POST", f"datasets?name=a.csv{told}", data=b"a,b\n1,2\n")
        assert made.status_code == 201, made.text
        return str(made.json["id"])

    return make


def run(api: Any, table: str, **inputs: str) -> dict[str, Any]:
    answer = api("POST", "jobs", json={"protocol": "mine", "inputs": {"table": table, **inputs}})
    assert answer.status_code == 201, answer.text
    job: dict[str, Any] = answer.json
    return job


def test_what_has_them_waits_and_what_lacks_some_has_ended(api: Any, upload: Callable[..., str]) -> None:
    good, bad = upload("human", "expression", "blood"), upload("human")
    assert run(api, good)["state"] == "queued"
    job = run(api, bad)
    task = job["tasks"][0]
    assert (job["state"], task["state"], task["failure"]) == ("inapplicable", "inapplicable", None)
    assert task["message"] == "The dataset for the input 'table' lacks expression."
    assert job["finished_at"] is not None
    events = api("GET", f"tasks/{task['id']}/events").json["items"]
    assert [(event["event"], event["detail"]) for event in events][1:] == [
        ("inapplicable", {"missing": ["expression"]})
    ]
    both = run(api, bad, other=upload("mouse"))["tasks"][0]["message"]
    assert "'table' lacks expression." in both
    assert "'other' lacks human." in both


def test_a_dry_run_says_so(api: Any, upload: Callable[..., str]) -> None:
    body = {"protocol": "mine", "inputs": {"table": upload("human")}}
    told = api("POST", "jobs?dry_run=true", json=body).json
    assert told["inapplicable"] == [{"task": "task", "slot": "table", "missing": ["expression"]}]
    fits = {"protocol": "mine", "inputs": {"table": upload("human", "expression")}}
    assert api("POST", "jobs?dry_run=true", json=fits).json["inapplicable"] == []


def test_a_sweep_runs_what_fits(api: Any, upload: Callable[..., str]) -> None:
    tables = [upload("human", "expression"), upload(), upload("expression")]
    sweep = {"grid": {"inputs.table": tables}}
    job = api("POST", "jobs", json={"tree": {"task": "t", "protocol": "mine", "sweep": sweep}}).json
    states = {task["name"]: task["state"] for task in job["tasks"]}
    assert states == {"t[0]": "queued", "t[1]": "inapplicable", "t[2]": "inapplicable"}
    assert job["counts"]["inapplicable"] == 2
    assert all(task["ready"] for task in job["tasks"] if task["state"] == "queued")


def tree(api: Any, upload: Callable[..., str], kind: str, rule: str) -> dict[str, Any]:
    """A job of a, b and c, of which b has a dataset without terms."""
    good, bad = upload("human", "expression"), upload()
    children = [
        {"task": name, "protocol": "mine", "inputs": {"table": table}}
        for name, table in (("a", good), ("b", bad), ("c", good))
    ]
    job: dict[str, Any] = api("POST", "jobs", json={"tree": {kind: children, "on_failure": rule}}).json
    return job


def states(job: dict[str, Any]) -> dict[str, str]:
    return {task["name"]: task["state"] for task in job["tasks"]}


@pytest.mark.parametrize(("rule", "others"), [("continue", "queued"), ("stop", "cancelled")])
def test_beside_others_it_is_a_loss_like_any_other(
    api: Any, upload: Callable[..., str], rule: str, others: str
) -> None:
    job = tree(api, upload, "parallel", rule)
    assert states(job) == {"a": others, "b": "inapplicable", "c": others}
    assert (job["finished_at"] is None) == (others == "queued")


def test_in_a_sequence_what_comes_after_it_is_skipped(
    api: Any, upload: Callable[..., str], attempt: Callable[..., Any]
) -> None:
    job = tree(api, upload, "sequential", "stop")
    assert states(job) == {"a": "queued", "b": "inapplicable", "c": "queued"}
    first = next(task["id"] for task in job["tasks"] if task["name"] == "a")
    worker = attempt(first)
    assert worker("POST", "claim", json={"worker": "worker-1", "claim_id": "c1"}).status_code == 200
    ending = {"outcome": "success", "failure": None, "exit_code": 0, "message": ""}
    assert worker("POST", "finish", json=ending).status_code == 200
    ended = api("GET", f"jobs/{job['id']}").json
    assert states(ended) == {"a": "success", "b": "inapplicable", "c": "cancelled"}
    assert ended["state"] == "partial"


def test_terms_are_checked_like_the_rest_of_the_manifest(api: Any) -> None:
    bad = archive(version="2.0.0", extra='\ninputs: {table: {title: T, terms: ["a, b"]}}')
    answer = api("POST", "protocols", data=bad, content_type="application/x-tar")
    assert answer.json["problems"][0]["file"] == "protocol.yml"
    assert "a term has no comma" in answer.json["detail"]
