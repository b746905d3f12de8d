"""A request's id, and the ids of what it is about, in records and answers; requests are counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient
from prometheus_client import REGISTRY

GIVEN = {"X-Request-ID": "client-chose-this-1"}


def records(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """What was logged since the last question, as it goes into the journal."""
    found = [record.msg for record in caplog.records if isinstance(record.msg, dict)]
    caplog.clear()
    return found


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0


def test_a_request_keeps_its_id_or_gets_one(browser: FlaskClient) -> None:
    assert browser.get("/api/v1/health", headers=GIVEN).headers["X-Request-ID"] == "client-chose-this-1"
    for bad in ("short", "a" * 65, "with space and more", 'quote"s-in-it'):
        made = browser.get("/api/v1/health", headers={"X-Request-ID": bad}).headers["X-Request-ID"]
        assert made != bad
        assert len(made) == 32
    assert len(browser.get("/nothing/here").headers["X-Request-ID"]) == 32


def test_records_name_the_request_the_job_the_task_and_the_attempt(
    api: Any, attempt: Callable[..., Any], browser: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    job = api.submit()
    task = job["tasks"][0]["id"]
    [submitted] = [one for one in records(caplog) if one["event"] == "job submitted"]
    assert (submitted["job"], submitted["tasks"], submitted["number_of_tasks"]) == (job["id"], [task], 1)
    assert len(submitted["request"]) == 32
    waited = counted("labfleet_task_wait_seconds_count", key="python")
    ran = counted("labfleet_attempt_run_seconds_sum", key="python", outcome="failed, user")
    worker = attempt(task)
    claimed = worker("POST", "claim", json={"worker": "worker-1", "claim_id": "c1"}, headers=GIVEN)
    assert claimed.status_code == 200
    ending = {
        "outcome": "failed",
        "failure": "user",
        "exit_code": 1,
        "message": "",
        "usage": {"wall_seconds": 2.5},
    }
    assert worker("POST", "finish", json=ending).status_code == 200
    begun, ended = [one for one in records(caplog) if one["event"].startswith("attempt ")]
    for record in (begun, ended):
        assert (record["task"], record["attempt"], record["job"]) == (task, "1", job["id"])
    assert (begun["request"], begun["worker"]) == ("client-chose-this-1", "worker-1")
    assert ended["request"] != begun["request"]
    assert (ended["outcome"], ended["failure"]) == ("failed", "user")
    assert counted("labfleet_task_wait_seconds_count", key="python") == waited + 1
    assert counted("labfleet_attempt_run_seconds_sum", key="python", outcome="failed, user") == ran + 2.5


def test_requests_are_counted_by_route_and_never_by_address(api: Any, browser: FlaskClient) -> None:
    job = api.submit()
    route = "/api/v1/jobs/<uuid:job>"
    labels = {"method": "GET", "route": route, "status": "200"}
    before = counted("labfleet_http_requests_total", **labels)
    times = counted("labfleet_http_request_seconds_count", route=route)
    assert api("GET", f"jobs/{job['id']}").status_code == 200
    browser.get("/no/such/page")
    assert counted("labfleet_http_requests_total", **labels) == before + 1
    assert counted("labfleet_http_request_seconds_count", route=route) == times + 1
    assert counted("labfleet_http_requests_total", method="GET", route="none", status="404") > 0
    everything = [sample.labels for family in REGISTRY.collect() for sample in family.samples]
    assert not [labels for labels in everything if job["id"] in str(labels) or "/no/such" in str(labels)]
