"""The broker stops, falls silent, gets slow, has no room, loses data, or wants acknowledgements sooner."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
from acceptance import playbook
from acceptance.broker import queued
from acceptance.lab import Lab, Machine
from acceptance.waiting import wait_for

from . import faults, ledger, promises
from .load import Load

Outage = Callable[[Machine], AbstractContextManager[None]]
OUTAGES: dict[str, Outage] = {
    "cut": lambda machine: faults.stopped(machine, faults.BROKER),
    "black hole": faults.black_hole,
    "slow": faults.slow,
    "disk alarm": faults.disk_alarm,
    "memory alarm": faults.memory_alarm,
}
# An alarm must last longer than the publisher waits for a confirm (confirm_timeout_seconds, 10).
USUAL = (("cut", 10), ("slow", 10), ("black hole", 30), ("disk alarm", 20), ("memory alarm", 20))
ALL = tuple((kind, seconds) for kind in OUTAGES for seconds in (10, 30, 600))
CASES = ALL if os.environ.get("LABFLEET_RESILIENCE") == "full" else USUAL
"""`LABFLEET_RESILIENCE=full` asks for every outage, also those of ten minutes."""

MEANWHILE = 12
"""Tasks that come while the broker is away: how quickly the fleet works off more is another question."""

CONSUMER_TIMEOUT = 4
LONGER = 10
ALLOWED = (
    "application:set_env(rabbit, consumer_timeout, %d), "
    "application:set_env(rabbit, channel_tick_interval, %d)."
)


@pytest.mark.parametrize(("kind", "seconds"), CASES)
def test_outage(kind: str, seconds: int, load: Load, broker: Machine, database: Machine) -> None:
    """There are tasks in every phase: running as it begins, sent and not begun, not yet sent, and new."""
    load.submit(2, seconds=5)
    load.submit(8)
    healthy = list(load.seconds)
    with OUTAGES[kind](broker):
        end = time.monotonic() + seconds
        load.submit(4)
        with load.flowing(per_second=min(1, MEANWHILE / seconds)):
            time.sleep(max(0.0, end - time.monotonic()))
        load.submit(4)
    repaired = ledger.now(database)
    assert load.broken == 0
    # A machine that has other work too takes longer with and without a broker; who waits for one, far longer.
    usual = max(promises.SUBMIT_SECONDS, 2 * max(healthy))
    assert max(load.seconds[len(healthy) :]) <= usual, (healthy, sorted(load.seconds))
    booked = ledger.settle(database, load.label, promises.FINAL_SECONDS)
    ledger.check(booked, len(load), repaired, promises.FINAL_SECONDS)


def test_all_data_of_the_broker_gone(
    load: Load, lab: Lab, broker: Machine, worker: Machine, database: Machine
) -> None:
    """The worker is frozen, so that what it was sent is lost with the broker, not run."""
    load.submit(6)
    with faults.frozen(worker, "labfleet-worker"):
        load.submit(8)
        wait_for(lambda: sum(queued(broker).values()), 30, "messages at the broker")
        with faults.stopped(broker, faults.BROKER):
            broker.run("rm -rf /var/lib/rabbitmq/mnesia")
        assert queued_or_none(broker) == {}
        playbook.play(lab.inventory, "playbooks/rabbitmq.yml").good()
    repaired = ledger.now(database)
    booked = ledger.settle(database, load.label, promises.RESENT_SECONDS)
    ledger.check(booked, len(load), repaired, promises.RESENT_SECONDS)


def queued_or_none(broker: Machine) -> dict[str, int]:
    """What the broker holds for us; nothing when it does not even know the virtual host."""
    known = broker.run("rabbitmqctl -q list_vhosts").split()
    return queued(broker) if "labfleet" in known else {}


def test_longer_than_the_consumer_timeout(load: Load, broker: Machine, database: Machine) -> None:
    """The broker takes back what is not acknowledged in 4 s; a task of 10 s must not be among it."""
    before = complaints(broker)
    allow(broker, CONSUMER_TIMEOUT, 1)
    try:
        load.submit(1, seconds=LONGER)
        booked = ledger.settle(database, load.label, LONGER + promises.FINAL_SECONDS)
    finally:
        allow(broker, 172800, 60)
    (task,) = booked
    assert (task.state, task.claims, task.attempt) == ("success", 1, 1), task
    assert ledger.unbalanced(booked) == []
    assert complaints(broker) == before


def allow(broker: Machine, timeout_seconds: int, look_seconds: int) -> None:
    """Give consumers so long, looking that often; for new connections, so everybody connects anew."""
    broker.run(f"rabbitmqctl -q eval '{ALLOWED % (timeout_seconds * 1000, look_seconds * 1000)}'")
    faults.reconnect(broker)


def complaints(broker: Machine) -> list[str]:
    """What the broker has ever logged of consumers that did not acknowledge in time."""
    logs = broker.run("cat /var/log/rabbitmq/*.log")
    return [line for line in logs.splitlines() if "acknowledg" in line or "PRECONDITION_FAILED" in line]
