"""The deployed lab as its inventory describes it: machines, tiers, secrets, and the way in."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import testinfra  # type: ignore[import-untyped]
from jinja2 import Template
from testinfra.host import Host  # type: ignore[import-untyped]

REPOSITORY = Path(__file__).resolve().parents[3]
TIERS = ("rabbitmq", "database", "queue", "worker", "webserver", "balancer")
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Machine:
    """One machine of the inventory and the tiers that stand on it."""

    name: str
    address: str
    user: str
    key: str
    tiers: frozenset[str]
    variables: dict[str, Any] = field(repr=False)

    @property
    def private_address(self) -> str:
        """The address that the other tiers use."""
        return templated("{{ labfleet_private_address }}", self.variables)

    @cached_property
    def host(self) -> Host:
        """Testinfra's view of the machine, over one kept ssh connection."""
        return testinfra.get_host(
            f"ssh://{self.user}@{self.address}",
            ssh_identity_file=self.key,
            ssh_extra_args="-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR",
            controlpersist=300,
            sudo=self.user != "root",
        )

    def run(self, command: str) -> str:
        """Run a shell command as root; its standard output, or an error that shows what it said."""
        result = self.host.run(f"sh -c {shlex.quote(command)}")
        assert result.rc == 0, f"{self.name}: {command}\n→ {result.rc}\n{result.stdout}\n{result.stderr}"
        return str(result.stdout)

    def ssh(self, *command: str) -> list[str]:
        """The argv that runs a command there, for callers that feed its standard input."""
        sudo = [] if self.user == "root" else ["sudo"]
        options = ["-i", self.key, "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
        return ["ssh", *options, "-o", "LogLevel=ERROR", f"{self.user}@{self.address}", "--", *sudo, *command]


@dataclass(frozen=True)
class Lab:
    """All machines of one inventory. `machine(tier)` is the first machine of that tier."""

    inventory: Path
    machines: dict[str, Machine]
    groups: dict[str, list[str]]

    def of(self, tier: str) -> list[Machine]:
        """Every machine of a tier, in the inventory's order."""
        return [self.machines[name] for name in self.groups.get(tier, [])]

    def machine(self, tier: str) -> Machine:
        """The first machine of a tier."""
        return self.of(tier)[0]

    @property
    def secrets(self) -> Path:
        """The directory where the lab's secrets are kept."""
        return _folder(self.inventory) / "secrets"

    def secret(self, name: str) -> str:
        """One secret's text, without the line end."""
        return (self.secrets / name).read_text().strip()

    @property
    def ca_file(self) -> Path:
        """The certificate of the lab's own authority."""
        return self.secrets / "tls" / "ca.crt"

    @property
    def url(self) -> str:
        """Where people reach the lab."""
        front = self.of("balancer") or self.of("webserver")
        return f"https://{front[0].address}"


def processes(machine: Machine, word: str) -> list[str]:
    """Processes with `word` in their command line, the looking ones left out."""
    lines = machine.run("ps -ewwo pid=,args=").splitlines()
    return [line for line in lines if word in line and "ps -ewwo" not in line]


def load(inventory: Path) -> Lab:
    """Read an inventory the way Ansible reads it."""
    listing = json.loads(_ansible_inventory(inventory))
    groups = {tier: _members(listing, tier) for tier in TIERS}
    variables: dict[str, dict[str, Any]] = listing["_meta"]["hostvars"]
    names = sorted({name for members in groups.values() for name in members})
    return Lab(
        inventory,
        {
            name: _machine(name, {"inventory_dir": str(_folder(inventory)), **variables[name]}, groups)
            for name in names
        },
        groups,
    )


def _ansible_inventory(inventory: Path) -> str:
    command = [
        str(BIN / "ansible-inventory"),
        "-i",
        str(inventory),
        "--playbook-dir",
        str(REPOSITORY),
        "--list",
    ]
    done = subprocess.run(
        command, cwd=REPOSITORY, env=ansible_environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"the inventory {inventory} can't be read:\n{done.stderr}"
    return done.stdout


def _members(listing: dict[str, Any], group: str) -> list[str]:
    entry = listing.get(group, {})
    below = [name for child in entry.get("children", []) for name in _members(listing, child)]
    return [*entry.get("hosts", []), *below]


def _machine(name: str, variables: dict[str, Any], groups: dict[str, list[str]]) -> Machine:
    known = {"inventory_hostname": name, **variables}
    # By default the private address is the one that the machine has; a fact that no inventory lists.
    known["ansible_facts"] = {"default_ipv4": {"address": variables.get("ansible_host", name)}}
    return Machine(
        name=name,
        address=templated("{{ ansible_host | default(inventory_hostname) }}", known),
        user=templated("{{ ansible_user | default('root') }}", known),
        key=templated("{{ ansible_ssh_private_key_file }}", known),
        tiers=frozenset(tier for tier, members in groups.items() if name in members),
        variables=known,
    )


def templated(text: str, variables: dict[str, Any]) -> str:
    """`ansible-inventory` prints templates as they stand; ours name other variables and nothing else."""
    while "{{" in text:
        text = Template(text).render(variables)
    return text


def _folder(inventory: Path) -> Path:
    return inventory if inventory.is_dir() else inventory.parent


def inventory_path() -> Path:
    """The inventory under test: `LABFLEET_INVENTORY`, by default the one machine of `./lab up`."""
    given = Path(os.environ.get("LABFLEET_INVENTORY", "inventory/local"))
    return given if given.is_absolute() else REPOSITORY / given


def ansible_environment(**more: str) -> dict[str, str]:
    """The environment in which the project's playbooks run from this interpreter's own environment."""
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    plain = {
        "ANSIBLE_FORCE_COLOR": "0",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"),
    }
    return {**os.environ, "PATH": path, **plain, **more}
