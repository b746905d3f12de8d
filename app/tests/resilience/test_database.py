"""The database is restarted, and stays away for a while, under load."""

from __future__ import annotations

import time

from acceptance.lab import Machine

from . import faults, ledger, promises
from .load import Load

AWAY_SECONDS = 5


def test_restart_and_outage_under_load(load: Load, database: Machine, worker: Machine) -> None:
    """`Load` insists that every answer that is no 201 is a problem document with 503 and Retry-After."""
    load.submit(2, seconds=10)
    load.submit(8)
    with load.flowing(per_second=3):
        database.run("systemctl restart postgresql")
        time.sleep(2)
        with faults.stopped(database, "postgresql"):
            time.sleep(AWAY_SECONDS)
        repaired = ledger.now(database)
        time.sleep(2)
    faults.wait_active(worker, "labfleet-worker")
    booked = ledger.settle(database, load.label, promises.FINAL_SECONDS)
    ledger.check(booked, len(load), repaired, promises.FINAL_SECONDS)
    assert load.broken == 0
    assert load.refused > 0, "the outage was not noticed by any client"
