"""Machines are shut down while they work, and come back by themselves."""

from __future__ import annotations

from acceptance.lab import Lab, Machine
from acceptance.waiting import wait_for

from . import crashes, faults, ledger, machines, promises
from .load import Load

SECONDS = 12
"""How long a task takes that runs when its worker is shut down."""


def test_a_worker_hands_back_what_runs_and_goes_on_when_it_is_back(
    load: Load, spare: Machine, worker: Machine, database: Machine
) -> None:
    """Nobody else serves the key: what was handed back is run by the machine itself, after its start."""
    with faults.only(spare, worker):
        load.submit(1, seconds=SECONDS)
        wait_for(lambda: claims(database, load.label) == [1], 30, "the task to run")
        with machines.switched_off(spare):
            (entry,) = ledger.entries(database, load.label)
            assert (entry.state, entry.attempt, entry.worker) == ("queued", 2, None), entry
            assert ledger.outcomes(database, entry.id) == {1: "stopped"}
            load.submit(4)
        repaired = ledger.now(database)
        booked = ledger.settle(database, load.label, SECONDS + promises.FINAL_SECONDS)
    ledger.check(booked, 5, repaired, SECONDS + promises.FINAL_SECONDS)
    assert {entry.worker for entry in booked} == {spare.name}
    assert sorted(entry.claims for entry in booked) == [1, 1, 1, 1, 2]


def test_every_tier_comes_back_by_itself(load: Load, lab: Lab, worker: Machine, database: Machine) -> None:
    """One machine has all tiers, with tasks that run and tasks that wait."""
    load.submit(2, seconds=SECONDS)
    load.submit(8)
    with machines.switched_off(worker):
        pass
    faults.wait_active(worker, *sorted({unit for _, unit in crashes.UNITS.values()}), seconds=180)
    repaired = ledger.now(database)
    booked = ledger.settle(database, load.label, SECONDS + promises.FINAL_SECONDS)
    ledger.check(booked, len(load), repaired, SECONDS + promises.FINAL_SECONDS)


def claims(database: Machine, label: str) -> list[int]:
    """How often each task has been claimed."""
    return [entry.claims for entry in ledger.entries(database, label)]
