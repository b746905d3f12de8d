"""Runs of the project's playbooks, and what they said."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .lab import BIN, REPOSITORY, ansible_environment

RECAP = re.compile(r"^(\S+)\s+: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", re.MULTILINE)
LONGEST = 1500
"""Seconds after which a run is taken for hung."""


@dataclass(frozen=True)
class Run:
    """One run: its exit code, all that it printed, and changed and failed tasks per host."""

    code: int
    output: str

    @property
    def changed(self) -> dict[str, int]:
        """Tasks that changed something, per host."""
        return {name: int(changed) for name, _, changed, _, _ in RECAP.findall(self.output)}

    @property
    def tasks(self) -> int:
        """Task results of all hosts, skipped ones left out."""
        return sum(int(ok) for _, ok, _, _, _ in RECAP.findall(self.output))

    def good(self) -> Run:
        """The run itself; an AssertionError with its end when it failed."""
        assert self.code == 0, self.output[-6000:]
        return self

    @property
    def changes(self) -> str:
        """The tasks that changed something, for an assertion's message."""
        parts = re.split(r"^(?=(?:TASK|RUNNING HANDLER) \[)", self.output, flags=re.MULTILINE)
        return "\n".join(part[:1500] for part in parts if re.search(r"^changed: ", part, re.MULTILINE))


def site(inventory: Path, *options: str, **environment: str) -> Run:
    """Run site.yml as an admin does."""
    return play(inventory, "site.yml", *options, **environment)


def play(inventory: Path, playbook: str, *options: str, folder: Path = REPOSITORY, **environment: str) -> Run:
    """Run any playbook of the project, or of another checkout in `folder`, as an admin does."""
    command = [str(BIN / "ansible-playbook"), "-i", str(inventory), playbook, *options]
    config = str(folder / "ansible.cfg")
    done = subprocess.run(
        command,
        cwd=folder,
        env=ansible_environment(ANSIBLE_CONFIG=config, **environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LONGEST,
        check=False,
    )
    return Run(done.returncode, done.stdout)
