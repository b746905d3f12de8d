"""Crash points of the product (labfleet.crash), set on a deployed lab's machines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from acceptance.lab import Lab, Machine
from acceptance.waiting import wait_for

from labfleet.crash import VARIABLE

from . import faults

DIRECTORY = "/run/labfleet-crash"
SYSTEM = "/etc/systemd/system/labfleet-.service.d/90-crash.conf"
USER = "/etc/systemd/user/labfleet-.service.d/90-crash.conf"
SYSTEM_TEXT = f"[Service]\nEnvironment={VARIABLE}={DIRECTORY}\nReadWritePaths=-{DIRECTORY}\n"
USER_TEXT = f"[Service]\nEnvironment={VARIABLE}={DIRECTORY}\n"
UNITS = {
    "web": ("webserver", "labfleet-web"),
    "dispatcher": ("webserver", "labfleet-dispatcher"),
    "publisher": ("queue", "labfleet-publisher"),
    "worker": ("worker", "labfleet-worker"),
    "attempt": ("worker", "labfleet-worker"),
}
"""Who passes the points: the tier whose machine it is, and the unit that must run again after a crash.
An `attempt` is a process of its own, which nobody starts again: its task is tried again."""


@dataclass(frozen=True)
class Point:
    """A named point, and the kind of process that dies there; only a task of some seconds comes by some."""

    name: str
    process: str
    seconds: float = 0


POINTS = (
    Point("submit_before_commit", "web"),
    Point("submit_after_commit", "web"),
    Point("claim_before_commit", "web"),
    Point("claim_after_commit", "web"),
    Point("heartbeat_after_commit", "web", seconds=3),
    Point("artifact_before_commit", "web"),
    Point("finish_before_commit", "web"),
    Point("finish_after_commit", "web"),
    Point("release_before_commit", "dispatcher"),
    Point("release_after_commit", "dispatcher"),
    Point("dispatch_before_send", "dispatcher"),
    Point("dispatch_after_send", "dispatcher"),
    Point("dispatch_after_commit", "dispatcher"),
    Point("publish_before_send", "publisher"),
    Point("publish_before_confirm", "publisher"),
    Point("publish_after_confirm", "publisher"),
    Point("worker_before_claim", "worker"),
    Point("worker_after_claim", "worker"),
    Point("worker_after_start", "worker"),
    Point("worker_after_end", "worker"),
    Point("attempt_before_heartbeat", "attempt"),
    Point("attempt_before_upload", "attempt"),
    Point("attempt_after_upload", "attempt"),
    Point("attempt_before_finish", "attempt"),
    Point("attempt_after_finish", "attempt"),
)


class Crashes:
    """The crash directories of a lab whose services look at them."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    def machine(self, process: str) -> Machine:
        """Where such a process runs."""
        return self._lab.machine(UNITS[process][0])

    def arm(self, point: Point) -> None:
        """The next process that passes the point dies."""
        self.machine(point.process).run(f"touch {DIRECTORY}/{point.name}")

    def wait_fired(self, point: Point, seconds: float) -> None:
        """Wait until a process has died there."""
        machine = self.machine(point.process)
        wait_for(
            lambda: not machine.host.file(f"{DIRECTORY}/{point.name}").exists,
            seconds,
            f"somebody to pass {point.name}",
        )

    def wait_repaired(self) -> None:
        """Wait until every unit runs."""
        for machine in self._lab.machines.values():
            units = {unit for tier, unit in UNITS.values() if machine == self._lab.machine(tier)}
            if units:
                faults.wait_active(machine, *sorted(units))


@contextmanager
def installed(lab: Lab) -> Iterator[Crashes]:
    """The services look into their crash directory, which is empty, until the block ends."""
    with ExitStack() as stack:
        for machine in lab.machines.values():
            machine.run(f"rm -rf {DIRECTORY} && mkdir {DIRECTORY} && chmod 0777 {DIRECTORY}")
            stack.callback(machine.run, f"rm -rf {DIRECTORY}")
            stack.callback(_restart, machine)
            stack.enter_context(faults.files(machine, {SYSTEM: SYSTEM_TEXT, USER: USER_TEXT}))
            _restart(machine)
        crashes = Crashes(lab)
        crashes.wait_repaired()
        yield crashes


def _restart(machine: Machine) -> None:
    """Our units as their files now say, those of the worker's own systemd as well."""
    machine.run("systemctl daemon-reload")
    if "worker" in machine.tiers:
        machine.run(f"systemctl restart user@$(id -u {faults.WORKER_USER})")
    machine.run("systemctl try-restart 'labfleet-*.service'")
