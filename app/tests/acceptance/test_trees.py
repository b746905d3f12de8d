"""Jobs of several tasks on a deployed lab: order, inputs by name, sweeps, rules and verbs."""

from __future__ import annotations

import re

import pytest

from .api import Api, Json, assert_problem
from .waiting import wait_for

FINAL = {"success", "failed", "partial", "inapplicable", "cancelled"}


def submit(user: Api, tree: Json, **more: object) -> Json:
    answer = user.http.post("/api/v1/jobs", json={"tree": tree, **more})
    assert answer.status_code == 201, answer.text
    job: Json = answer.json()
    return job


def ended(user: Api, job: Json) -> Json:
    def probe() -> Json | None:
        now = user.get(f"jobs/{job['id']}")
        return now if now["state"] in FINAL else None

    return wait_for(probe, 120, "the tree to end", lambda: user.get(f"jobs/{job['id']}"))


def summary(name: str, **more: object) -> Json:
    return {"task": name, "protocol": "table-summary", **more}


@pytest.fixture
def table(user: Api) -> Json:
    return user.upload("heights.csv", b"name,height\nada,170\nbob,180\ncy,175\n")


def test_outputs_feed_later_tasks_and_results_are_assembled(user: Api, table: Json) -> None:
    first = summary("first", inputs={"table": table["id"]})
    sweep = {"grid": {"parameters.top": [1, 2, 3]}}
    many = summary("many", inputs={"table": {"task": "first", "output": "summary"}}, sweep=sweep)
    job = ended(user, submit(user, {"sequential": [first, many]}))
    assert (job["state"], job["counts"]["success"], job["progress"]) == ("success", 4, 1)
    tasks = {task["name"]: task for task in job["tasks"]}
    assert {
        task["started_at"] > tasks["first"]["finished_at"] for name, task in tasks.items() if name != "first"
    } == {True}
    results = user.get(f"jobs/{job['id']}/results?limit=200")["items"]
    assert {item["task_name"] for item in results} == {"first", "many[0]", "many[1]", "many[2]"}
    origin = user.get(f"tasks/{tasks['many[1]']['id']}/provenance")
    made = next(item for item in results if item["task_name"] == "first" and item["name"] == "summary.csv")
    assert origin["inputs"][0]["sha256"] == made["sha256"]
    assert re.fullmatch(r"[0-9a-f]{40}", origin["task"]["commit"])
    (attempt,) = origin["attempts"]
    assert attempt["outcome"] == "success" and attempt["environment"] and attempt["usage"]


def test_a_failure_skips_what_comes_after_and_a_retry_runs_it(user: Api, table: Json) -> None:
    broken = user.upload("broken.csv", b"\xff\xfe\x00\x01 no table\n")
    bad = summary("bad", inputs={"table": broken["id"]})
    job = ended(user, submit(user, {"sequential": [bad, summary("after", inputs={"table": table["id"]})]}))
    assert job["state"] in {"failed", "inapplicable"}
    assert job["counts"]["skipped"] == 1
    assert_problem(user.http.post(f"/api/v1/tasks/{job['tasks'][1]['id']}/retry"), 409, "wrong_state")
    again = user.http.post(f"/api/v1/jobs/{job['id']}/retry").json()
    assert again["state"] == "queued"
    assert ended(user, job)["tasks"][0]["attempt"] == 2


def test_a_task_that_no_worker_can_take_is_told_so_at_once(user: Api, table: Json) -> None:
    leaf = summary("one", inputs={"table": table["id"]}, needs={"tags": ["no-such-tag"]})
    job = submit(user, leaf)
    (task,) = job["tasks"]
    assert task["reason"]["code"] == "no_such_worker" and "no-such-tag" in task["reason"]["message"]
    assert user.http.post(f"/api/v1/jobs/{job['id']}/cancel").json()["state"] == "cancelled"
    assert user.http.delete(f"/api/v1/jobs/{job['id']}").status_code == 204


def test_a_job_that_waits_in_the_queue_delays_nobody(user: Api, table: Json) -> None:
    needs = {"tags": ["no-such-tag"]}
    sweep = {"grid": {"parameters.missing": [[f"x{number}"] for number in range(5000)]}}
    waiting = submit(user, summary("n", inputs={"table": table["id"]}, needs=needs, sweep=sweep))
    assert waiting["counts"]["queued"] == 5000
    assert ended(user, submit(user, summary("quick", inputs={"table": table["id"]})))["state"] == "success"
    assert user.http.post(f"/api/v1/jobs/{waiting['id']}/cancel").json()["state"] == "cancelled"
