"""A worker in another network: HTTPS to the lab and AMQPS to the broker must be all that it needs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from acceptance.lab import Lab, Machine
from resilience import faults, ledger
from resilience.load import Load

# The way out comes after -200, where the kernel looks up which connection a packet belongs to.
RULES = f"""
table inet {faults.TABLE} {{
  chain input {{ type filter hook input priority -300; policy drop;
    iif lo accept; ct state established,related accept; tcp dport 22 accept; }}
  chain output {{ type filter hook output priority -150; policy drop;
    oif lo accept; ct state established,related accept;
    ip daddr {{ %s }} tcp dport 443 accept; ip daddr {{ %s }} tcp dport 5671 accept;
    counter drop; }}
}}
"""


@pytest.fixture
def far(lab: Lab) -> Iterator[Machine]:
    """The worker, shut in but for the two ways out; the other worker takes nothing."""
    near, far = (next(one for one in lab.of("worker") if one.name == name) for name in ("lab", "far"))
    front = ", ".join(machine.private_address for machine in lab.of("balancer"))
    brokers = ", ".join(machine.private_address for machine in lab.of("rabbitmq"))
    with faults.stopped(near, "labfleet-worker"), faults.rules(far, RULES % (front, brokers)):
        # It connects anew, from its closed network.
        far.run("systemctl restart labfleet-worker")
        yield far


def test_two_ways_out_are_enough(far: Machine, load: Load, database: Machine) -> None:
    load.submit(10)

    booked = ledger.settle(database, load.label, 90)

    ledger.check(booked, 10, ledger.now(database), 90)
    assert {entry.worker for entry in booked} == {far.name}
