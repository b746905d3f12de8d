"""The disk of the result store is full."""

from __future__ import annotations

from acceptance.api import Api, assert_problem
from acceptance.lab import Machine
from acceptance.waiting import wait_for

from . import faults, ledger, promises
from .load import Load

PATIENCE = "LABFLEET_WORKER__PATIENCE_SECONDS=4"
"""How long an attempt keeps what it has made and tries again; a quarter of an hour by default."""
TASKS = 2


def test_results_that_can_not_be_kept(
    user: Api, nobody: Api, load: Load, webserver: Machine, worker: Machine, database: Machine
) -> None:
    """Attempts end as the system's failure, the service stays up and says so; with room all succeeds."""
    with faults.environment(worker, "patience", ["labfleet-worker"], PATIENCE):
        with faults.full_store(webserver):
            wait_for(
                lambda: told(nobody)["store"] is False, 10, "the service to say so", lambda: told(nobody)
            )
            assert nobody.http.get("/api/v1/health").status_code == 200
            upload = user.http.post("/api/v1/datasets?name=a.csv", content=b"a" * 9000)
            assert_problem(upload, 503, "store_unavailable")
            load.submit(TASKS)
            assert load.refused == 0
            wait_for(
                lambda: all(entry.attempt > 1 for entry in ledger.entries(database, load.label)),
                60,
                "every attempt to have failed",
                lambda: ledger.entries(database, load.label),
            )
            repaired = ledger.now(database)
        reasons = ledger.query(
            database,
            "SELECT a.outcome, a.message FROM attempts a JOIN tasks t ON t.id = a.task_id "
            f"JOIN jobs j ON j.id = t.job_id WHERE j.label = '{load.label}' AND a.number = 1",
        )
        booked = ledger.settle(database, load.label, promises.FINAL_SECONDS)
    assert [row["outcome"] for row in reasons] == ["failed"] * TASKS, reasons
    assert all("No space left on device" in row["message"] for row in reasons), reasons
    ledger.check(booked, TASKS, repaired, promises.FINAL_SECONDS)
    wait_for(lambda: told(nobody)["store"], 10, "the service to be ready", lambda: told(nobody))
    assert user.upload("a.csv", b"a" * 9000)["size"] == 9000


def told(nobody: Api) -> dict[str, bool]:
    """What the service says of its parts, with the status that fits it."""
    answer = nobody.http.get("/api/v1/ready")
    checks: dict[str, bool] = answer.json()["checks"]
    assert answer.status_code == (200 if all(checks.values()) else 503), answer.text
    return checks
