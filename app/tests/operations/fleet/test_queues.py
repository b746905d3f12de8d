"""Two machines take what the webservers dispatch: either may be away."""

from __future__ import annotations

import pytest
from acceptance.lab import Lab, Machine
from resilience import faults, ledger
from resilience.load import Load

JOBS = 20


@pytest.mark.parametrize("away", [0, 1])
def test_one_is_away(away: int, lab: Lab, load: Load, database: Machine) -> None:
    machine = lab.of("queue")[away]
    with faults.stopped(machine, "nginx"):
        load.submit(JOBS)
        booked = ledger.settle(database, load.label, 60)
    ledger.check(booked, len(load), ledger.now(database), 60)
