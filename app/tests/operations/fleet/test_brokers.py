"""Three brokers are one: any of them may be lost, cut off, or restarted, and no task is."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
from acceptance import playbook
from acceptance.lab import Lab, Machine
from acceptance.waiting import wait_for
from resilience import faults, ledger, machines, promises
from resilience.load import Load

LOAD_SECONDS = 180
BEFORE_SECONDS = 20
PER_SECOND = 2


@contextmanager
def apart(lab: Lab, machine: Machine) -> Iterator[None]:
    """No other broker hears the machine, nor it them; clients reach it still."""
    others = ", ".join(other.private_address for other in lab.of("rabbitmq") if other is not machine)
    with faults.rules(machine, faults.FILTER % (f"ip saddr {{ {others} }}", f"ip daddr {{ {others} }}")):
        yield


FAULTS: dict[str, Callable[[Lab, Machine], AbstractContextManager[None]]] = {
    "killed": lambda _, machine: machines.lost(machine),
    "partitioned": apart,
}


def members(broker: Machine) -> dict[str, set[str]]:
    """The nodes that have a copy of each quorum queue."""
    told = broker.run("rabbitmqctl -q list_queues -p labfleet name type members --formatter json")
    return {queue["name"]: set(queue["members"]) for queue in json.loads(told) if queue["type"] == "quorum"}


def running(broker: Machine) -> set[str]:
    status = json.loads(broker.run("rabbitmqctl -q cluster_status --formatter json"))
    return set(status["running_nodes"])


def nodes(lab: Lab) -> set[str]:
    return {f"rabbit@{machine.name}.labfleet.internal" for machine in lab.of("rabbitmq")}


def whole(lab: Lab) -> bool:
    try:
        return all(running(machine) == nodes(lab) for machine in lab.of("rabbitmq"))
    except AssertionError:
        return False  # a node that is starting does not answer


def led_by(lab: Lab) -> Machine:
    """The machine whose loss hurts most: the one that leads the first worker's queue."""
    asked = lab.machine("rabbitmq")
    told = asked.run("rabbitmqctl -q list_queues -p labfleet name leader --formatter json")
    name = f"labfleet.worker.{lab.machine('worker').name}"
    leader = next(queue["leader"] for queue in json.loads(told) if queue["name"] == name)
    return next(machine for machine in lab.of("rabbitmq") if f"@{machine.name}." in leader)


def test_they_are_one_and_each_has_every_queue(lab: Lab, load: Load, database: Machine) -> None:
    assert whole(lab)
    copies = members(lab.machine("rabbitmq"))
    assert f"labfleet.worker.{lab.machine('worker').name}" in copies
    assert set(map(frozenset, copies.values())) == {frozenset(nodes(lab))}
    load.submit(4)
    ledger.check(ledger.settle(database, load.label, 60), 4, ledger.now(database), 60)


@pytest.mark.parametrize("seconds", [10, 30])
@pytest.mark.parametrize("fault", FAULTS)
def test_one_is_lost_under_load(fault: str, seconds: int, lab: Lab, load: Load, database: Machine) -> None:
    begin = time.monotonic()
    with load.flowing(PER_SECOND):
        time.sleep(BEFORE_SECONDS)
        with FAULTS[fault](lab, led_by(lab)):
            time.sleep(seconds)
        repaired = ledger.now(database)
        time.sleep(max(0.0, begin + LOAD_SECONDS - time.monotonic()))
    booked = ledger.settle(database, load.label, promises.FINAL_SECONDS)
    ledger.check(booked, len(load), repaired, promises.FINAL_SECONDS)
    assert max(load.seconds) <= promises.SUBMIT_SECONDS, sorted(load.seconds)[-5:]
    wait_for(lambda: whole(lab), 60, "the brokers to be one again", lambda: "they are not")


def test_all_are_restarted_one_after_the_other(lab: Lab, load: Load, database: Machine) -> None:
    """A setting that wants a restart; meanwhile most of them are up at any time, and tasks go on."""
    with load.flowing(PER_SECOND):
        for options in (("-e", "rabbitmq_heartbeat_seconds=50"), ()):
            run = playbook.play(lab.inventory, "playbooks/rabbitmq.yml", *options).good()
            assert {name for name, count in run.changed.items() if count} == {
                machine.name for machine in lab.of("rabbitmq")
            }
            assert whole(lab)
    booked = ledger.settle(database, load.label, promises.FINAL_SECONDS)
    ledger.check(booked, len(load), ledger.now(database), promises.FINAL_SECONDS)


@contextmanager
def slow(broker: Machine) -> Iterator[None]:
    """The broker's processes stand still for a while; then they go on."""
    broker.run("systemctl kill -s STOP rabbitmq-server")
    try:
        yield
    finally:
        broker.run("systemctl kill -s CONT rabbitmq-server")


def test_one_that_is_slow_is_not_restarted(lab: Lab, load: Load, database: Machine) -> None:
    """It may be the one without which there is no majority: the run waits, then says so and leaves it."""
    broker = lab.of("rabbitmq")[1]
    begun = "systemctl show -P ActiveEnterTimestampMonotonic rabbitmq-server"
    before = broker.run(begun)
    options = (
        "--limit",
        broker.name,
        "-e",
        "rabbitmq_heartbeat_seconds=55",
        "-e",
        "rabbitmq_quorum_wait_seconds=20",
    )
    with load.flowing(PER_SECOND), slow(broker):
        run = playbook.play(lab.inventory, "playbooks/rabbitmq.yml", *options)
    assert run.code != 0
    assert "has not answered for 20 s" in " ".join(run.output.split()), run.output[-3000:]
    assert broker.run(begun) == before
    wait_for(lambda: whole(lab), 120, "the brokers to be one again", lambda: "they are not")
    playbook.play(lab.inventory, "playbooks/rabbitmq.yml").good()
    assert broker.run(begun) != before
    booked = ledger.settle(database, load.label, promises.FINAL_SECONDS)
    ledger.check(booked, len(load), ledger.now(database), promises.FINAL_SECONDS)


def test_one_that_lost_its_disk_comes_back(lab: Lab, load: Load, database: Machine) -> None:
    """As docs/roles/rabbitmq.md tells it."""
    kept, gone = lab.of("rabbitmq")[0], lab.of("rabbitmq")[2]
    node = f"rabbit@{gone.name}.labfleet.internal"
    with load.flowing(PER_SECOND):
        gone.run("systemctl stop rabbitmq-server && rm -rf /var/lib/rabbitmq/mnesia")
        kept.run(f"rabbitmqctl -q forget_cluster_node {node}")
        playbook.play(lab.inventory, "playbooks/rabbitmq.yml").good()
        kept.run(f"rabbitmq-queues -q grow {node} all")
    assert set(map(frozenset, members(kept).values())) == {frozenset(nodes(lab))}
    booked = ledger.settle(database, load.label, promises.FINAL_SECONDS)
    ledger.check(booked, len(load), ledger.now(database), promises.FINAL_SECONDS)
