"""A machine that is really loaded gets nothing new until it has calmed; short tasks may pass."""

from __future__ import annotations

import time
from typing import Any

from acceptance.api import Api, Json
from acceptance.lab import Machine
from acceptance.waiting import wait_for

from . import faults, ledger, promises
from .load import PROTOCOL, Load

UNITS = ("labfleet-dispatcher", "labfleet-web")
BURNERS = 30
MARGIN = 3.0
"""Where the threshold lies above the load per core that the machines have to begin with: they see that of the
computer they share, with whatever else it does."""
RISE_SECONDS = 180
CALM_SECONDS = 600
QUIET_SECONDS = 15
"""For so long nothing begins on the loaded machine; the dispatcher has looked several times by then."""
BEGIN_SECONDS = 15
"""A calm machine says so within `presence_seconds`, and the dispatcher looks every `poll_seconds`."""


def test_nothing_begins_until_it_has_calmed(
    user: Api, load: Load, webserver: Machine, worker: Machine, database: Machine
) -> None:
    limit = load_per_core(user, worker) + MARGIN
    with faults.environment(webserver, "load", UNITS, f"LABFLEET_ORDER__MAX_LOAD_PER_CORE={limit}"):
        load.submit(1)
        ledger.settle(database, load.label, promises.FINAL_SECONDS)
        with faults.burning(worker, BURNERS):
            wait_for(lambda: load_per_core(user, worker) > limit, RISE_SECONDS, "the load to rise")
            waiting = [submit(user, load)]
            # By default a short task is not worth the waiting.
            user.wait(submit(user, load, time="30s"), "success", seconds=promises.FINAL_SECONDS)
            short = "LABFLEET_ORDER__SHORT_TASKS_PASS_LOAD=false"
            with faults.environment(webserver, "short", UNITS, short):
                waiting.append(submit(user, load, time="30s"))
                end = time.monotonic() + QUIET_SECONDS
                while time.monotonic() < end:
                    assert [user.task(job)["state"] for job in waiting] == ["queued"] * 2
                    time.sleep(1)
                for job in waiting:
                    (told,) = user.get(f"jobs/{job['id']}/queue")["items"]
                    assert told["reason"]["code"] == "workers_loaded", told
                    assert worker.name in told["reason"]["message"], told
                assert load_per_core(user, worker) > limit
        wait_for(lambda: load_per_core(user, worker) < limit, CALM_SECONDS, "the machine to calm", pause=1)
        for job in waiting:
            assert user.wait(job, "running", "success", seconds=BEGIN_SECONDS)["attempt"] == 1
        booked = ledger.settle(database, load.label, promises.FINAL_SECONDS)
    assert len(booked) == 4
    assert ledger.unbalanced(booked) == []
    assert {entry.claims for entry in booked} == {1}


def submit(user: Api, load: Load, **needs: str) -> Json:
    """One task; it counts as a long one unless it says otherwise."""
    task: dict[str, Any] = {
        "task": "mark",
        "protocol": PROTOCOL,
        "parameters": {"mark": "load"},
        "needs": needs,
    }
    answer = user.http.post("/api/v1/jobs", json={"tree": task, "label": load.label})
    assert answer.status_code == 201, answer.text
    job: Json = answer.json()
    return job


def load_per_core(user: Api, worker: Machine) -> float:
    """What the worker has last said of its load."""
    (told,) = [item for item in user.get("workers")["items"] if item["name"] == worker.name]
    return float(told["load1"]) / int(told["cores"])
