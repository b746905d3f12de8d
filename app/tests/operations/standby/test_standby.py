"""When the machine that leads the database is lost, the other takes its place, and no job is lost."""

from __future__ import annotations

import time

from acceptance import playbook
from acceptance.lab import Lab, Machine
from acceptance.waiting import wait_for
from resilience import ledger, machines, promises
from resilience.load import Load

from .cluster import PATRONICTL, Cluster

BACK_SECONDS = 45
"""The promise of docs/guarantees.md: writes are taken again so soon after the leader is lost."""
PER_SECOND = 2
BEFORE_SECONDS = 10
ALONE_SECONDS = 10


def booked(load: Load, leader: Machine, repaired: float) -> None:
    """Every job that was taken has ended, once."""
    entries = ledger.settle(leader, load.label, promises.FINAL_SECONDS)
    ledger.check(entries, len(load), repaired, promises.FINAL_SECONDS)


def started(machine: Machine) -> float:
    """When this server began, by its own clock: all machines have the same here."""
    statement = "SELECT extract(epoch FROM pg_postmaster_start_time())"
    return float(machine.run(f"runuser -u postgres -- psql -XAtc '{statement}'"))


def test_the_leader_s_machine_loses_its_power(cluster: Cluster, load: Load) -> None:
    gone, other = cluster.leader(), cluster.standby()
    load.submit(2, seconds=20)
    with load.flowing(PER_SECOND):
        time.sleep(BEFORE_SECONDS)
        with machines.lost(gone):
            begin = time.monotonic()
            load.submit(1)
            back = time.monotonic() - begin
            repaired = ledger.now(other)
            print(f"The first job was taken {back:.1f} s after the leader was lost.")
            assert back <= BACK_SECONDS
            time.sleep(ALONE_SECONDS)
        cluster.wait_whole()
    assert cluster.leader() is other, "the former leader comes back as a standby"
    booked(load, other, repaired)


def test_the_leader_is_changed_in_order(cluster: Cluster, load: Load) -> None:
    """Before its machine is serviced; docs/roles/patroni.md."""
    former, other = cluster.leader(), cluster.standby()
    with load.flowing(PER_SECOND):
        former.run(f"{PATRONICTL} switchover --force --candidate {other.name} labfleet")
        begin = time.monotonic()
        load.submit(1)
        assert time.monotonic() - begin <= BACK_SECONDS
        repaired = ledger.now(other)
        cluster.wait_whole()
    assert cluster.leader() is other
    booked(load, other, repaired)


def test_a_setting_that_wants_a_restart(lab: Lab, cluster: Cluster, load: Load) -> None:
    """The standby restarts first, then the leader; afterwards there is nothing more to change."""
    leader, standby = cluster.leader(), cluster.standby()
    options = ("-e", "postgresql_max_connections=110")
    with load.flowing(PER_SECOND):
        playbook.play(lab.inventory, "playbooks/database.yml", *options).good()
        repaired = ledger.now(leader)
        assert started(standby) < started(leader)
        for machine in (leader, standby):
            assert machine.run("runuser -u postgres -- psql -XAtc 'SHOW max_connections'").strip() == "110"
        again = playbook.play(lab.inventory, "playbooks/database.yml", *options).good()
        assert set(again.changed.values()) == {0}, again.changes
    assert cluster.leader() is leader
    booked(load, leader, repaired)
    playbook.play(lab.inventory, "playbooks/database.yml").good()


def test_self_check_tells_of_a_lost_standby(lab: Lab, cluster: Cluster) -> None:
    leader, standby = cluster.leader(), cluster.standby()

    def told() -> str:
        return " ".join(playbook.play(lab.inventory, "playbooks/self_check.yml").output.split())

    assert "No standby" not in told()
    standby.run("systemctl stop patroni")
    try:
        wait_for(
            lambda: f"No standby has all that {leader.name} has" in told(),
            60,
            "self-check to tell of the standby",
            told,
            5,
        )
    finally:
        standby.run("systemctl start patroni")


def test_one_that_lost_its_disk_comes_back(lab: Lab, cluster: Cluster, load: Load) -> None:
    """As docs/roles/patroni.md tells it: it joins the voters, and copies the database."""
    leader, standby = cluster.leader(), cluster.standby()
    with load.flowing(PER_SECOND):
        standby.run("systemctl stop patroni etcd && rm -rf /var/lib/etcd/labfleet /var/lib/postgresql/*/main")
        voters = leader.run("labfleet-etcdctl member list").splitlines()
        gone = next(line for line in voters if f", {standby.name}, " in line).partition(",")[0]
        leader.run(f"labfleet-etcdctl member remove {gone}")
        playbook.play(lab.inventory, "playbooks/database.yml").good()
        cluster.wait_whole()
        repaired = ledger.now(leader)
    assert cluster.leader() is leader
    booked(load, leader, repaired)
