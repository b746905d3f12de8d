"""A hundred thousand tasks in one job: whoever else works with the lab does not notice."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from acceptance import admin as admin_cli
from acceptance.api import FINAL, Api, Json
from acceptance.conftest import PASSWORD
from acceptance.lab import Lab, Machine

from . import ledger, promises
from .load import PROTOCOL, Load

TASKS = 100_000
PATIENCE_SECONDS = 600
"""A busy computer takes its time; nobody else may have to."""


@pytest.fixture
def other(lab: Lab, webserver: Machine, load: Load) -> Iterator[Load]:
    """Somebody else's tasks."""
    admin_cli.add_user(webserver, "resilience-other", PASSWORD)
    api = Api.login(lab.url, lab.ca_file, "resilience-other", PASSWORD)
    yield Load(api, f"{load.label} other")
    api.http.close()


@pytest.fixture
def job(user: Api, load: Load, other: Load, database: Machine) -> Iterator[Json]:
    """The job, submitted while somebody else works; it does not outlive the test."""
    with other.flowing(per_second=1):
        made = submit(user, load.label)
    yield made
    if user.get(f"jobs/{made['id']}")["state"] not in FINAL:
        act(user, "POST", f"jobs/{made['id']}/cancel")
        ledger.wait_few(database, load.label, 0, promises.FINAL_SECONDS)
    act(user, "DELETE", f"jobs/{made['id']}")


def test_others_go_on_and_every_task_ends_once(
    user: Api, load: Load, other: Load, job: Json, database: Machine
) -> None:
    assert job["counts"]["total"] == TASKS
    user.wait(job, "running", "success", seconds=promises.FINAL_SECONDS)
    other.submit(5)
    booked = ledger.settle(database, other.label, promises.FINAL_SECONDS)
    ledger.check(booked, len(other), 0, promises.FINAL_SECONDS)
    assert user.get(f"jobs/{job['id']}")["counts"]["queued"] > TASKS / 2

    cancelled = act(user, "POST", f"jobs/{job['id']}/cancel")
    assert cancelled["counts"]["queued"] == 0, cancelled["counts"]
    ledger.wait_few(database, load.label, 0, promises.FINAL_SECONDS)
    assert endings(database, job) == {1: TASKS}
    counts = user.get(f"jobs/{job['id']}")["counts"]
    assert counts["success"] + counts["cancelled"] == TASKS, counts


def submit(user: Api, label: str) -> Json:
    """The job, in one request."""
    grid = {
        "parameters.mark": [f"mark {number}" for number in range(TASKS // 100)],
        "parameters.seconds": [number / 1e6 for number in range(100)],
    }
    tree = {"task": "fit", "protocol": PROTOCOL, "sweep": {"grid": grid}}
    return act(user, "POST", "jobs", {"tree": tree, "label": label})


def act(user: Api, method: str, path: str, body: Json | None = None) -> Json:
    """Ask for something that may take its time and must be done."""
    answer = user.http.request(method, f"/api/v1/{path}", json=body, timeout=PATIENCE_SECONDS)
    assert answer.is_success, f"{answer.status_code} {answer.text}"
    told: Json = answer.json() if answer.content else {}
    return told


def endings(database: Machine, job: Json) -> dict[int, int]:
    """How many tasks of the job have ended how often."""
    rows = ledger.query(
        database,
        "SELECT times, count(*) AS tasks FROM (SELECT count(e.id) AS times FROM tasks t LEFT JOIN events e "
        f"ON e.task_id = t.id AND e.to_state IN {ledger.FINAL} AND e.from_state NOT IN {ledger.FINAL} "
        f"WHERE t.job_id = '{job['id']}' GROUP BY t.id) AS each GROUP BY times",
    )
    return {row["times"]: row["tasks"] for row in rows}
