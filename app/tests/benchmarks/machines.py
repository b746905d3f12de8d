"""Fresh machines for a measurement: the same inventory as the lab's one machine, under other names."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml
from acceptance.lab import BIN, REPOSITORY, Lab, ansible_environment, load

SOURCE = REPOSITORY / "inventory" / "local"
VARIABLES = Path("group_vars/labfleet/machines.yml")


@contextmanager
def fresh_machine(name: str, network: int) -> Iterator[Lab]:
    """A lab of one bare machine with nothing but its image; it is removed afterwards."""
    inventory = REPOSITORY / ".lab" / "bench" / name
    shutil.rmtree(inventory, ignore_errors=True)
    (inventory / VARIABLES).parent.mkdir(parents=True)
    shutil.copy(SOURCE / "hosts.yml", inventory / "hosts.yml")
    variables = yaml.safe_load((SOURCE / VARIABLES).read_text())
    variables |= {
        "machines_name_prefix": f"labfleet-{name}",
        "machines_network": f"labfleet-{name}",
        "machines_network_prefix": f"10.186.{network}",
    }
    (inventory / VARIABLES).write_text(yaml.safe_dump(variables))
    try:
        _machines(inventory, "present")
        yield load(inventory)
    finally:
        _machines(inventory, "absent")
        shutil.rmtree(inventory)


def _machines(inventory: Path, state: str) -> None:
    command = [str(BIN / "ansible-playbook"), "-i", str(inventory), "playbooks/machines.yml"]
    done = subprocess.run(
        [*command, "-e", f"machines_state={state}"],
        cwd=REPOSITORY,
        env=ansible_environment(),
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
