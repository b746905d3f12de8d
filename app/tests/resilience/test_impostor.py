"""Somebody takes the broker's or the database's place: nobody tells him a word, and nothing is lost."""

from __future__ import annotations

import pytest
from acceptance.lab import Machine
from acceptance.waiting import wait_for

from . import faults, ledger, promises
from .load import Load

CUT = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE datname = 'labfleet' AND pid <> pg_backend_pid()"
)
REFUSALS = 4


@pytest.mark.parametrize("port", [faults.AMQP, faults.POSTGRESQL])
def test_who_can_not_show_the_lab_s_certificate_is_told_nothing(
    port: int, load: Load, broker: Machine, database: Machine
) -> None:
    machine = broker if port == faults.AMQP else database
    load.submit(4)
    with load.flowing(per_second=1), faults.impostor(machine, port) as heard:
        if port == faults.AMQP:
            faults.reconnect(broker)
        else:
            ledger.query(database, CUT)
        wait_for(
            lambda: len(told(machine, heard)) >= REFUSALS, 60, "clients to come", lambda: told(machine, heard)
        )
        assert set(told(machine, heard)) == {"refused"}
    repaired = ledger.now(database)
    booked = ledger.settle(database, load.label, promises.FINAL_SECONDS)
    ledger.check(booked, len(load), repaired, promises.FINAL_SECONDS)


def told(machine: Machine, heard: str) -> list[str]:
    """What became of each client."""
    return machine.run(f"cat {heard}").split()
