"""The database's servers: who leads, who has all that the leader has."""

from __future__ import annotations

import json
from typing import Any

from acceptance.lab import Lab, Machine
from acceptance.waiting import wait_for

PATRONICTL = "patronictl -c /etc/patroni/config.yml"
WHOLE_SECONDS = 180
"""A server that comes back starts, catches up, and is in step again within it."""


class Cluster:
    """The servers of a lab's database."""

    def __init__(self, lab: Lab) -> None:
        self.machines = {machine.name: machine for machine in lab.of("database")}

    def members(self, asked: Machine | None = None) -> list[dict[str, Any]]:
        """What Patroni knows of them."""
        machine = asked or next(iter(self.machines.values()))
        told: list[dict[str, Any]] = json.loads(machine.run(f"{PATRONICTL} list --format json"))
        return told

    def leader(self) -> Machine:
        """The machine that takes writes."""
        return self.machines[next(one["Member"] for one in self.members() if one["Role"] == "Leader")]

    def standby(self) -> Machine:
        """The other one."""
        leader = self.leader()
        return next(machine for machine in self.machines.values() if machine is not leader)

    def wait_whole(self) -> None:
        """Wait until one leads and the other has all it has."""
        wait_for(self._is_whole, WHOLE_SECONDS, "a leader and a standby in step", self.members)

    def _is_whole(self) -> bool:
        try:
            members = self.members()
        except AssertionError:
            return False  # a machine that has just been switched on
        roles = sorted(one["Role"] for one in members if one["State"] in {"running", "streaming"})
        return roles == ["Leader", "Sync Standby"] and self._both_write()

    def _both_write(self) -> bool:
        """Whether the leader waits for the standby: only then is nothing lost with the leader."""
        statement = "SELECT sync_state FROM pg_stat_replication"
        told = self.leader().run(f"runuser -u postgres -- psql -XAtc '{statement}'")
        return told.split() == ["sync"]
