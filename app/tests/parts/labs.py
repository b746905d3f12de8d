"""Inventories of the machines that tests raise: copies of the shipped ones, apart from a person's own lab."""

from __future__ import annotations

import shutil
import sys
import zlib
from pathlib import Path

from jobs import Step

ROOT = Path(__file__).resolve().parents[3]
STATE = ROOT / ".lab"
BIN = Path(sys.executable).parent

# Another checkout on the same computer gets other names and other networks, and so does each inventory.
_MARK = zlib.crc32(str(ROOT).encode())
_NETWORKS = (
    "services",
    "single",
    "cluster",
    "resilience",
    "update",
    "backup",
    "rotation",
    "hardening",
    "metrics",
    "fleet",
    "standby",
    "join",
)


def inventory(name: str, like: str, changes: Path | None = None) -> Path:
    """A copy of `inventory/<like>` in .lab, with machines, network and secrets of its own.

    Files of the directory `changes` take the place of the copied ones, or come to them.
    """
    folder = STATE / "test" / name
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "inventory" / like, folder, ignore=shutil.ignore_patterns("secrets"))
    if changes:
        shutil.copytree(changes, folder, dirs_exist_ok=True)
    own = f"labfleet-test-{_MARK % 0x10000:04x}-{name}"
    (folder / "group_vars" / "labfleet" / "test.yml").write_text(
        f"---\nmachines_name_prefix: {own}\nmachines_network: {own}\n"
        f'machines_network_prefix: "{_network(name)}"\n'
    )
    return folder


def address(name: str) -> str:
    """The address of the one machine of a copy of `inventory/local`."""
    return f"{_network(name)}.10"


def _network(name: str) -> str:
    return f"10.{190 + _NETWORKS.index(name)}.{_MARK % 250}"


def playbook(folder: Path, *arguments: str, counts: bool = False, **environment: str) -> Step:
    """Run a playbook against an inventory."""
    return Step(
        [str(BIN / "ansible-playbook"), "-i", str(folder), *arguments],
        folder=ROOT,
        counts=counts,
        environment={"ANSIBLE_NOCOLOR": "1", **environment},
    )


def removal(folder: Path) -> Step:
    """Remove the machines of an inventory."""
    return playbook(folder, "playbooks/machines.yml", "-e", "machines_state=absent")


def journals(folder: Path) -> Step:
    """What the machines have to say after a failure: failed units, and the end of the journal."""
    script = "systemctl --failed --no-pager; journalctl --no-pager --priority=warning --lines=80"
    return Step(
        [str(BIN / "ansible"), "-i", str(folder), "labfleet", "-m", "ansible.builtin.shell", "-a", script],
        folder=ROOT,
    )
