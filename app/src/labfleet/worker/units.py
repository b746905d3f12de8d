"""Attempt units: transient units of the worker user's own systemd, outside the worker's service.

They are named by task and attempt, so that a worker that restarts, or gets a message twice, finds what
runs. A unit is a scope around a shepherd that the nursery has made, or a service where there is no nursery;
both have the same limits, and the functions here take the name without its suffix. Failed units stay until
`forget`, so that their result can be read.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from labfleet.worker.bus import Bus, BusError
from labfleet.worker.spec import MEMORY_OVERHEAD_BYTES, STOP_SIGNAL, UNIT_PREFIX, Spec

RUNNING_STATES = ["active", "activating", "deactivating", "reloading"]
OVERHEAD_TASKS = 32
STOP_SECONDS = 30
"""After the grace: log and ending are still to be sent."""
TRANSFER_SECONDS = 6 * 3600
"""What fetching and uploading may take on top of the run, before systemd ends the unit."""
POLL_SECONDS = 0.5
AWAY_SECONDS = 60.0
"""How long systemd may give no answer until we no longer believe that a unit runs."""
OOM_SCORE = 500
UMASK = 0o077
_SCOPE_OOM_VERSION = 253
"""systemd's first with `OOMPolicy=` for scopes; before it left those alone in which the kernel had killed."""
_SECOND = 1_000_000
Property = tuple[str, tuple[str, Any]]


def unit_name(task: str, number: int) -> str:
    """The unit of an attempt."""
    return f"{UNIT_PREFIX}{task}-{number}"


def start_service(spec: Spec, directory: Path) -> None:
    """Start the attempt's unit with a shepherd of its own; returns as soon as its process runs."""
    start(f"{unit_name(spec.task, spec.number)}.service", service_properties(spec, directory))


def start_scope(spec: Spec, pid: int) -> None:
    """Put a process into a unit of the attempt's own; when this returns, the limits hold."""
    with Bus() as bus:
        unit = f"{unit_name(spec.task, spec.number)}.scope"
        _start(bus, unit, scope_properties(spec, pid, systemd_version()))


def service_properties(spec: Spec, directory: Path) -> list[Property]:
    """Of the attempt's unit when it is a service."""
    program = [sys.executable, "-I", "-m", "labfleet.worker.attempt", str(directory)]
    return [
        *service(program),
        *_limits(spec),
        ("WorkingDirectory", ("s", str(directory))),
        # Only the shepherd is told to stop; it ends the sandbox, which needs its grace. What is left
        # after that is killed with the cgroup.
        ("KillMode", ("s", "mixed")),
        # The shepherd survives when the kernel kills the sandbox, and tells the user why.
        ("OOMPolicy", ("s", "continue")),
        ("OOMScoreAdjust", ("i", OOM_SCORE)),
    ]


def scope_properties(spec: Spec, pid: int, systemd: int) -> list[Property]:
    """Of the attempt's unit when it is a scope around the process; `systemd` is the version of that."""
    properties = [("PIDs", ("au", [pid])), ("KillSignal", ("i", int(STOP_SIGNAL))), *_limits(spec)]
    return [*properties, ("OOMPolicy", ("s", "continue"))] if systemd >= _SCOPE_OOM_VERSION else properties


def service(program: list[str]) -> list[Property]:
    """What all our transient services have.

    The release stands in the environment, which forked children keep: as long as a process names it there,
    an update does not remove it.
    """
    return [
        ("Type", ("s", "exec")),
        ("ExecStart", ("a(sasb)", [(program[0], program, False)])),
        ("Environment", ("as", [f"LABFLEET_RELEASE={sys.prefix}"])),
        ("UMask", ("u", UMASK)),
        ("NoNewPrivileges", ("b", True)),
    ]


def start(unit: str, properties: list[Property]) -> None:
    """Start a transient unit and wait until it runs."""
    with Bus() as bus:
        _start(bus, unit, properties)


def _start(bus: Bus, unit: str, properties: list[Property]) -> None:
    bus.run_job("StartTransientUnit", "ssa(sv)a(sa(sv))", unit, "fail", properties, [])


@cache
def systemd_version() -> int:
    """systemd's, asked once: its property reads `252.38-1~deb12u1`, `257 (257.8-1)` or the like."""
    with Bus() as bus:
        text = str(bus.read("/org/freedesktop/systemd1", "Manager", "Version"))
    return int("".join(char if char.isdecimal() else " " for char in text).split()[0])


def _limits(spec: Spec) -> list[Property]:
    limits, host = spec.limits, spec.host
    longest = limits.wall_seconds + host.patience_seconds + TRANSFER_SECONDS
    return [
        ("TimeoutStopUSec", ("t", int((host.grace_seconds + STOP_SECONDS) * _SECOND))),
        ("RuntimeMaxUSec", ("t", int(longest * _SECOND))),
        ("MemoryMax", ("t", limits.memory_bytes + MEMORY_OVERHEAD_BYTES)),
        ("MemorySwapMax", ("t", 0)),
        ("TasksMax", ("t", limits.processes + OVERHEAD_TASKS)),
        ("CPUQuotaPerSecUSec", ("t", spec.cores * _SECOND)),
        ("CPUAccounting", ("b", True)),
        ("MemoryAccounting", ("b", True)),
    ]


def running() -> set[str]:
    """Names of the attempt units that run (also those that are being stopped)."""
    with Bus() as bus:
        return {name.rpartition(".")[0] for name, *_ in _loaded(bus, f"{UNIT_PREFIX}*", RUNNING_STATES)}


def result(name: str) -> str:
    """systemd's word for how the unit ended: `success`, `oom-kill`, `timeout` …"""
    with Bus() as bus:
        for unit, _, path in _loaded(bus, f"{name}.*"):
            return str(bus.read(path, unit.rpartition(".")[2].capitalize(), "Result"))
    return "success"  # systemd has forgotten it: it doesn't forget those that have failed


def stop(name: str) -> None:
    """Ask the unit to stop; doesn't wait for it. No error if there is none."""
    with Bus() as bus:
        for unit, *_ in _loaded(bus, f"{name}.*", RUNNING_STATES):
            unless_gone(bus.manager, "StopUnit", "ss", unit, "replace")


def forget(name: str) -> None:
    """Let systemd forget a unit that has failed. No error if there is none."""
    runs_or_forget(name)


def runs_or_forget(name: str) -> bool:
    """Whether the unit runs. If it has failed, systemd forgets it."""
    with Bus() as bus:
        known = _loaded(bus, f"{name}.*", [*RUNNING_STATES, "failed"])
        for unit, state, _ in known:
            if state == "failed":
                unless_gone(bus.manager, "ResetFailedUnit", "s", unit)
    return any(state != "failed" for _, state, _ in known)


def wait(name: str, given_up: Callable[[], bool]) -> str | None:
    """Wait until the unit has ended; systemd's word for its result, or None when `given_up` says that
    nobody waits any more."""
    heard = time.monotonic()
    while not given_up():
        try:
            if name not in running():
                return result(name)
            heard = time.monotonic()
        except BusError:
            # It may be executing itself anew; what it looks after lives on.
            if time.monotonic() - heard > AWAY_SECONDS:
                raise
        time.sleep(POLL_SECONDS)
    return None


def _loaded(bus: Bus, pattern: str, states: list[str] | None = None) -> list[tuple[str, str, str]]:
    """Name, state and path of the units that systemd knows now."""
    (units,) = bus.manager("ListUnitsByPatterns", "asas", states or [], [pattern])
    return [(str(unit[0]), str(unit[3]), str(unit[6])) for unit in units]


def unless_gone(call: Callable[..., object], method: str, signature: str, *body: str) -> None:
    """Make the call; that systemd does not know the unit is no error."""
    try:
        call(method, signature, *body)
    except BusError as error:
        if not error.name.endswith("NoSuchUnit"):
            raise
