"""SIGKILL of every kind of process, at every named point and at any moment, under load."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from acceptance.api import Api
from acceptance.lab import Lab

from . import crashes, faults, ledger, promises
from .crashes import POINTS, UNITS, Crashes, Point
from .ledger import Entry
from .load import Load

TASKS = 1000
KILLS = ("web", "dispatcher", "publisher", "worker", "nursery")
"""Whose whole unit is killed at any moment; the nursery is where the worker has its attempts begin."""
FAULTS = (*(point.name for point in POINTS), *(f"kill {process}" for process in KILLS))
EACH = -(-TASKS // len(FAULTS))
FEW = 15
"""The next fault begins when so few tasks are open: those that wait for a lease need not be waited for."""
DRAIN_SECONDS = 90


@dataclass
class Round:
    """The tasks that were submitted with one fault, and when its process ran again."""

    load: Load
    repaired: float
    booked: list[Entry]


class Campaign:
    """All faults in a row."""

    def __init__(self, lab: Lab, user: Api, points: Crashes) -> None:
        self.rounds: dict[str, Round] = {}
        self.left = ""
        self._lab = lab
        self._database = lab.machine("database")
        self._user = user
        self._points = points
        self._label = f"resilience {uuid.uuid4()}"

    def run(self) -> None:
        """Do every fault, then wait for the last task."""
        for process in KILLS:
            self._kill(process)
        # Those of attempts come last: no start of the worker's service afterwards tidies up behind them.
        for point in POINTS:
            self._at(point)
        ledger.settle(self._database, self._label, DRAIN_SECONDS)
        for done in self.rounds.values():
            done.booked = ledger.entries(self._database, done.load.label)

    def _at(self, point: Point) -> None:
        load = Load(self._user, f"{self._label} {point.name}")
        self._points.arm(point)
        load.submit(1, point.seconds)
        load.submit(EACH - 1)
        self._points.wait_fired(point, DRAIN_SECONDS)
        self._repaired(point.name, load)

    def _kill(self, process: str) -> None:
        load = Load(self._user, f"{self._label} kill {process}")
        load.submit(EACH // 2)
        if process == "nursery":
            words = "kill -s KILL labfleet-nursery"
            self._lab.machine("worker").run(faults.own_systemctl(words))
        else:
            tier, unit = UNITS[process]
            faults.kill(self._lab.machine(tier), unit)
        load.submit(EACH - EACH // 2)
        self._repaired(f"kill {process}", load)

    def _repaired(self, fault: str, load: Load) -> None:
        self._points.wait_repaired()
        self.rounds[fault] = Round(load, ledger.now(self._database), [])
        ledger.wait_few(self._database, self._label, FEW, DRAIN_SECONDS)


@pytest.fixture(scope="module")
def campaign(lab: Lab, user: Api) -> Iterator[Campaign]:
    with crashes.installed(lab) as points:
        whole = Campaign(lab, user, points)
        whole.run()
        # Before anything is started again, which tidies up behind those that ran before.
        whole.left = faults.left_on(lab.machine("worker"))
    yield whole


def test_a_thousand_tasks(campaign: Campaign) -> None:
    assert sum(len(done.booked) for done in campaign.rounds.values()) >= TASKS


@pytest.mark.parametrize("fault", FAULTS)
def test_nothing_lost_nothing_twice_nothing_late(campaign: Campaign, fault: str) -> None:
    done = campaign.rounds[fault]
    ledger.check(done.booked, len(done.load), done.repaired, promises.FINAL_SECONDS)


def test_nothing_is_left_on_the_worker(campaign: Campaign) -> None:
    assert campaign.left == ""
