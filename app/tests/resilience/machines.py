"""Machines that lose their power, or are switched off and on: the containers of a test lab."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from acceptance.lab import REPOSITORY, Machine, templated
from acceptance.waiting import wait_for

SETTINGS = REPOSITORY / ".lab" / "containers.conf"


@contextmanager
def lost(machine: Machine) -> Iterator[None]:
    """The machine has no power; in the end it is switched on again."""
    _podman("kill", machine)
    try:
        yield
    finally:
        _switch_on(machine)


@contextmanager
def switched_off(machine: Machine) -> Iterator[None]:
    """The machine has been shut down in order; in the end it is switched on again."""
    # Without a bound, systemd lets a timer be late by a minute: what was running would have ended by then.
    machine.run("systemd-run --quiet --on-active=1s --timer-property=AccuracySec=100ms systemctl poweroff")
    _podman("wait", machine)
    try:
        yield
    finally:
        _switch_on(machine)


def _switch_on(machine: Machine) -> None:
    _podman("start", machine)
    wait_for(lambda: _answers(machine), 60, f"{machine.name} to be back", lambda: "no answer by ssh")


def _podman(verb: str, machine: Machine) -> None:
    name = templated("{{ machines_name_prefix }}-{{ inventory_hostname }}", machine.variables)
    environment = {**os.environ, **({"CONTAINERS_CONF": str(SETTINGS)} if SETTINGS.exists() else {})}
    root = [] if os.geteuid() == 0 else ["sudo", "--preserve-env=CONTAINERS_CONF"]
    command = [*root, "podman", verb, name]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _answers(machine: Machine) -> bool:
    return subprocess.run(machine.ssh("true"), capture_output=True, timeout=20, check=False).returncode == 0
