"""Trees, verbs, bulk and search by the API, as a client sees them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest

from labfleet.db.models import User

TREE = {
    "sequential": [
        {"task": "first", "protocol": "greet"},
        {"task": "fit", "protocol": "greet", "sweep": {"grid": {"parameters.times": [1, 2, 3]}}},
    ]
}


def test_a_tree_is_shown_with_its_nodes_and_tasks(api: Any) -> None:
    job = api("POST", "jobs", json={"tree": TREE, "labels": ["paper"], "note": "n"}).json
    assert (job["counts"]["total"], job["counts"]["queued"], job["progress"]) == (4, 4, 0)
    assert [(node["kind"], node["total"]) for node in job["nodes"]] == [("sequential", 2), ("parallel", 3)]
    assert [task["name"] for task in job["tasks"]] == ["first", "fit[0]", "fit[1]", "fit[2]"]
    assert [task["ready"] for task in job["tasks"]] == [True, False, False, False]
    assert job["tasks"][1]["reason"]["code"] == "waits_for_earlier_tasks"
    page = api("GET", f"jobs/{job['id']}/tasks?limit=3").json
    rest = api("GET", f"jobs/{job['id']}/tasks?limit=3&after={page['next']}").json
    assert [task["name"] for task in page["items"] + rest["items"]] == [task["name"] for task in job["tasks"]]
    assert api("GET", f"jobs/{job['id']}/tasks?state=success").json["items"] == []


def test_a_dry_run_makes_nothing(api: Any) -> None:
    answer = api("POST", "jobs?dry_run=true", json={"tree": TREE})
    assert answer.status_code == 200
    assert (answer.json["tasks"], answer.json["nodes"], answer.json["protocols"]) == (4, 2, ["greet"])
    assert answer.json["lanes"][0]["tasks"] == 4
    assert api("GET", "jobs").json["items"] == []


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"tree": {"sequential": [{"task": "a", "protocol": "greet"}] * 2}}, "tree.sequential.1.task"),
        ({"tree": {"sequential": []}}, "tree.sequential"),
        ({"tree": {"parallel": [{"task": "a", "protocol": "greet", "colour": 1}]}}, "tree.parallel.0.colour"),
        ({"tree": {"task": "a", "protocol": "greet", "parameters": {"times": 99}}}, "tree.parameters.times"),
        ({"protocol": "greet", "tree": TREE}, "job"),
        ({}, "job"),
        ({"protocol": "greet", "priority": 1000}, "priority"),
        ({"protocol": "greet", "webhook": "ftp://x"}, "webhook"),
    ],
)
def test_faults_are_told_with_their_places(api: Any, body: dict[str, Any], path: str) -> None:
    answer = api("POST", "jobs", json=body)
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_job")
    assert path in [fault["path"] for fault in answer.json["errors"]]
    assert answer.json["hint"]


def test_a_document_of_any_depth_is_answered(api: Any) -> None:
    deep: Any = {"task": "a", "protocol": "greet"}
    for _ in range(60):
        deep = {"sequential": [deep]}
    for body in (deep, {"sequential": [deep]}):
        assert api("POST", "jobs", json={"tree": body}).status_code == 422
    text = '{"tree":' + '{"sequential":[' * 1_500 + "]}" * 1_500 + "}"
    answer = api("POST", "jobs", data=text, content_type="application/json")
    assert answer.status_code in {400, 422}


def leaf(name: str, source: str = "", output: str = "counts") -> dict[str, Any]:
    """A task, with an output of another one as its input."""
    inputs = {"table": {"task": source, "output": output}} if source else {}
    return {"task": name, "protocol": "greet", "inputs": inputs}


MANY = {"parameters.times": list(range(400)), "parameters.who": [str(number) for number in range(400)]}


@pytest.mark.parametrize(
    ("tree", "path", "told"),
    [
        ({"parallel": [leaf("a", "b"), leaf("b", "a")]}, "tree.parallel.0.inputs", "not before it"),
        ({"sequential": [leaf("a", "b"), leaf("b", "a")]}, "tree.sequential.0.inputs", "not before it"),
        ({"sequential": [leaf("a"), leaf("b", "c")]}, "tree.sequential.1.inputs", "has no task 'c'"),
        ({"sequential": [leaf("a"), leaf("b", "a", "c")]}, "tree.sequential.1.inputs.table", "no output 'c'"),
        (leaf("a") | {"sweep": {"grid": MANY}}, "tree.sweep", "160000 tasks or more; at most 100000"),
        ({"sequential": [leaf("a"), {"parallel": []}]}, "tree.sequential.1.parallel", "at least 1 item"),
        ({"sequential": [leaf("a"), leaf("a")]}, "tree.sequential.1.task", "given at tree.sequential.0"),
    ],
)
def test_a_tree_that_makes_no_sense_is_refused_with_its_place(
    api: Any, tree: dict[str, Any], path: str, told: str
) -> None:
    answer = api("POST", "jobs", json={"tree": tree})
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_job")
    assert [told in fault["message"] for fault in answer.json["errors"] if fault["path"] == path] == [True]
    assert api("GET", "jobs").json["items"] == []


def test_a_tree_of_depth_10000_is_refused(api: Any) -> None:
    text = '{"tree":' + '{"sequential":[' * 10_000 + "]}" * 10_000 + "}"
    answer = api("POST", "jobs", data=text, content_type="application/json")
    assert (answer.status_code, answer.json["code"]) in {(400, "malformed"), (422, "invalid_job")}
    assert answer.json["hint"]
    assert api("GET", "jobs").json["items"] == []


def test_a_running_task_is_not_retried(api: Any, running: Any) -> None:
    job, worker = running()
    before = api("GET", f"jobs/{job['id']}").json
    for path in (f"tasks/{before['tasks'][0]['id']}", f"jobs/{job['id']}"):
        for verb in ("retry", "force-retry", "reset"):
            refused = api("POST", f"{path}/{verb}")
            assert (refused.status_code, refused.json["code"]) == (409, "wrong_state")
            assert refused.json["state"] == "running"
    assert api("GET", f"jobs/{job['id']}").json == before
    assert worker("POST", "heartbeat", json={}).status_code == 200


@pytest.mark.parametrize("verbs", [("retry", "retry"), ("retry", "reset"), ("force-retry", "DELETE")])
def test_of_two_people_at_once_the_second_is_told_how_it_stands(
    api: Any, caller: Callable[[User], Any], admin: User, verbs: tuple[str, str]
) -> None:
    root = caller(admin)
    for _ in range(5):
        job = api.submit()["id"]
        api("POST", f"jobs/{job}/cancel")
        both = Barrier(2, timeout=20)

        def act(who: Any, verb: str, job: str = job, both: Barrier = both) -> Any:
            both.wait()
            path = f"jobs/{job}"
            return who("DELETE", path) if verb == "DELETE" else who("POST", f"{path}/{verb}")

        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(act, (api, root), verbs))
        (refused,) = [answer for answer in answers if answer.status_code >= 300]
        if refused.status_code == 404:
            assert verbs[1] == "DELETE" and api("GET", f"jobs/{job}").status_code == 404
        else:
            now = api("GET", f"jobs/{job}").json
            assert (refused.status_code, refused.json["code"]) == (409, "wrong_state")
            assert refused.json["state"] == now["state"] == "queued"
            assert now["tasks"][0]["attempt"] == 2


def test_a_job_may_be_larger_than_other_documents(api: Any) -> None:
    """`max_spec_bytes` is 200,000 here, and `max_body_bytes` 50,000."""

    def sweep(size: int) -> dict[str, Any]:
        points = [{"parameters": {"who": "x" * 900}}] * (size // 1000)
        return {"tree": {"task": "fit", "protocol": "greet", "sweep": {"list": points}}}

    made = api("POST", "jobs", json=sweep(150_000))
    assert (made.status_code, made.json["counts"]["total"]) == (201, 150)
    again = api("POST", f"jobs/{made.json['id']}/resubmit", json={"changes": sweep(140_000)})
    assert (again.status_code, again.json["counts"]["total"]) == (201, 140)
    large = {"label": "x" * 60_000}
    for method, path, body in (
        ("POST", "jobs", sweep(250_000)),
        ("POST", f"jobs/{made.json['id']}/resubmit", {"changes": sweep(250_000)}),
        ("PATCH", f"jobs/{made.json['id']}", large),
    ):
        refused = api(method, path, json=body)
        assert (refused.status_code, refused.json["code"]) == (413, "too_large")
    assert len(api("GET", "jobs").json["items"]) == 2


def test_verbs_are_idempotent_or_conflicts_that_name_the_state(api: Any) -> None:
    job = api.submit()["id"]
    refused = api("POST", f"jobs/{job}/retry")
    assert (refused.status_code, refused.json["code"], refused.json["state"]) == (
        409,
        "wrong_state",
        "queued",
    )
    assert api("DELETE", f"jobs/{job}").status_code == 409
    assert api("POST", f"jobs/{job}/hold").json["held"] is True
    assert api("POST", f"jobs/{job}/hold").json["held"] is True
    assert api("POST", f"jobs/{job}/resume").json["held"] is False
    assert api("POST", f"jobs/{job}/cancel").json["state"] == "cancelled"
    assert api("POST", f"jobs/{job}/retry").json["state"] == "queued"
    assert api("POST", f"jobs/{job}/retry").status_code == 409
    task = api("GET", f"jobs/{job}").json["tasks"][0]
    assert (task["attempt"], task["state"]) == (2, "queued")
    assert api("POST", f"tasks/{task['id']}/cancel").json["state"] == "cancelled"
    assert api("POST", f"jobs/{job}/force-retry").json["state"] == "queued"
    assert api("POST", f"jobs/{job}/cancel").status_code == 200
    assert api("POST", f"jobs/{job}/reset").json["held"] is True
    assert api("POST", f"jobs/{job}/cancel").status_code == 200
    assert api("DELETE", f"jobs/{job}").status_code == 204
    assert api("GET", f"jobs/{job}").status_code == 404


def test_a_job_can_be_changed_and_submitted_again(api: Any) -> None:
    job = api.submit(label="old")["id"]
    changed = api(
        "PATCH", f"jobs/{job}", json={"label": "new", "labels": ["a"], "note": "why", "priority": -3}
    )
    assert (changed.json["label"], changed.json["labels"], changed.json["priority"]) == ("new", ["a"], -3)
    assert api("PATCH", f"jobs/{job}", json={"priority": 5}).status_code == 403
    again = api("POST", f"jobs/{job}/resubmit", json={"changes": {"parameters": {"times": 4}, "label": None}})
    assert again.status_code == 201 and again.json["id"] != job
    assert (again.json["tasks"][0]["parameters"]["times"], again.json["label"]) == (4, "")
    assert api("POST", f"jobs/{job}/resubmit", json={"changes": {"protocol": "none"}}).status_code == 404


def test_bulk_goes_on_where_one_can_not(api: Any) -> None:
    jobs = [api.submit(label=f"bulk {number}")["id"] for number in range(3)]
    api("POST", f"jobs/{jobs[0]}/cancel")
    bulk = {"verb": "cancel", "filter": {"text": "bulk"}}
    counted = api("POST", "jobs/bulk", json={**bulk, "dry_run": True}).json
    assert (counted["matched"], counted["done"]) == (3, 0)
    assert api("POST", "jobs/bulk", json=bulk).json["done"] == 3
    retried = api("POST", "jobs/bulk", json={"verb": "delete", "filter": {"state": ["cancelled"]}}).json
    assert (retried["matched"], retried["done"], retried["refused"]) == (3, 3, [])
    api.submit()
    refused = api("POST", "jobs/bulk", json={"verb": "delete", "filter": {}}).json
    assert (refused["done"], refused["refused"][0]["code"]) == (0, "wrong_state")


def test_a_timeline_and_provenance(api: Any) -> None:
    job = api("POST", "jobs", json={"tree": TREE}).json
    first = api("GET", f"jobs/{job['id']}/events?limit=3").json
    rest = api("GET", f"jobs/{job['id']}/events?limit=3&after={first['next']}").json
    assert [event["event"] for event in first["items"] + rest["items"]] == ["submitted"] * 4
    origin = api("GET", f"tasks/{job['tasks'][0]['id']}/provenance").json
    assert (origin["task"]["commit"], origin["attempts"], origin["artifacts"]) == (
        job["tasks"][0]["commit"],
        [],
        [],
    )
    assert api("GET", f"jobs/{job['id']}/results").json == {"items": [], "next": None}
    assert api("GET", f"jobs/{job['id']}/deliveries").json["items"] == []


def test_search_by_query(api: Any) -> None:
    job = api("POST", "jobs", json={"protocol": "greet", "label": "Golub data", "labels": ["x", "y"]}).json[
        "id"
    ]
    api.submit(label="another")
    for query in ("text=golub", "label=x,y", "text=data&protocol=greet&in_progress=true"):
        assert [found["id"] for found in api("GET", f"jobs?{query}").json["items"]] == [job], query
    for query in ("errored=true", "user=nobody", "since=2100-01-01T00:00:00Z", f"dataset={job}"):
        assert api("GET", f"jobs?{query}").json["items"] == [], query
    assert api("GET", "jobs?since=yesterday").status_code == 422
