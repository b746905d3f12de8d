"""Attempt units: transient services of the worker user's own systemd, outside the worker's service.

They are named by task and attempt, so that a worker that restarts, or gets a message twice, finds what
runs. Failed units stay until `forget`, so that their result can be read.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from labfleet.worker.spec import MEMORY_OVERHEAD_BYTES, UNIT_PREFIX, Spec

RUNNING_STATES = "active,activating,deactivating,reloading"
OVERHEAD_TASKS = 32
STOP_SECONDS = 30
"""After the grace: log and ending are still to be sent."""
TRANSFER_SECONDS = 6 * 3600
"""What fetching and uploading may take on top of the run, before systemd ends the unit."""
POLL_SECONDS = 0.5


class UnitError(Exception):
    """systemd refused; the message is its own."""


def unit_name(task: str, number: int) -> str:
    """The unit of an attempt."""
    return f"{UNIT_PREFIX}{task}-{number}.service"


def start(spec: Spec, directory: Path) -> None:
    """Start the attempt's unit; returns as soon as its process runs."""
    _run(start_argv(spec, directory))


def start_argv(spec: Spec, directory: Path) -> list[str]:
    """The command line, without a shell: `systemd-run --user … python -m labfleet.worker.attempt DIR`."""
    limits, host = spec.limits, spec.host
    properties = {
        "Type": "exec",
        "WorkingDirectory": str(directory),
        "UMask": "0077",
        # Only the shepherd is told to stop; it ends the sandbox, which needs its grace. What is left
        # after that is killed with the cgroup.
        "KillMode": "mixed",
        "TimeoutStopSec": f"{host.grace_seconds + STOP_SECONDS:g}",
        "RuntimeMaxSec": f"{limits.wall_seconds + host.patience_seconds + TRANSFER_SECONDS:g}",
        "MemoryMax": str(limits.memory_bytes + MEMORY_OVERHEAD_BYTES),
        "MemorySwapMax": "0",
        "TasksMax": str(limits.processes + OVERHEAD_TASKS),
        "CPUQuota": f"{100 * spec.cores}%",
        "CPUAccounting": "yes",
        "MemoryAccounting": "yes",
        # The shepherd survives when the kernel kills the sandbox, and tells the user why.
        "OOMPolicy": "continue",
        "OOMScoreAdjust": "500",
        "NoNewPrivileges": "yes",
    }
    words = [f"--property={name}={value}" for name, value in properties.items()]
    name = unit_name(spec.task, spec.number)
    program = [sys.executable, "-I", "-m", "labfleet.worker.attempt", str(directory)]
    return ["systemd-run", "--user", "--quiet", f"--unit={name}", *words, "--", *program]


def running() -> set[str]:
    """Names of the attempt units that run (also those that are being stopped)."""
    listed = _run(
        [*_SYSTEMCTL, "list-units", f"--state={RUNNING_STATES}", "--plain", "--no-legend", f"{UNIT_PREFIX}*"]
    )
    return {line.split()[0] for line in listed.splitlines() if line.strip()}


def show(name: str) -> dict[str, str]:
    """`ActiveState`, `MainPID` and `Result` of a unit; also of one that isn't there."""
    shown = _run([*_SYSTEMCTL, "show", name, "--property=ActiveState,MainPID,Result"])
    return dict(line.partition("=")[::2] for line in shown.splitlines())


def stop(name: str) -> None:
    """Ask the unit to stop; doesn't wait for it. No error if there is none."""
    _run([*_SYSTEMCTL, "stop", "--no-block", name])


def forget(name: str) -> None:
    """Let systemd forget a unit that has failed. No error if there is none."""
    if show(name)["ActiveState"] == "failed":
        _run([*_SYSTEMCTL, "reset-failed", name])


def wait(name: str, given_up: Callable[[], bool]) -> str | None:
    """Wait until the unit has ended; systemd's word for its result (`success`, `oom-kill`, …), or None
    when `given_up` says that nobody waits any more."""
    while True:
        state = show(name)
        if state["ActiveState"] in {"inactive", "failed"}:
            return state["Result"]
        if not _wait_for_process(int(state["MainPID"]), given_up):
            return None


def _wait_for_process(pid: int, given_up: Callable[[], bool]) -> bool:
    try:
        descriptor = os.pidfd_open(pid) if pid else -1
    except ProcessLookupError:
        descriptor = -1
    if descriptor < 0:  # between two states
        return not given_up() and not select.select([], [], [], POLL_SECONDS)[0]
    try:
        while not given_up():
            if select.select([descriptor], [], [], POLL_SECONDS)[0]:
                return True
        return False
    finally:
        os.close(descriptor)


_SYSTEMCTL = ("systemctl", "--user")


def _run(argv: list[str]) -> str:
    # A service has no session, so nobody has told it where the user's systemd listens.
    environment = {"PATH": os.defpath, "XDG_RUNTIME_DIR": f"/run/user/{os.getuid()}", "LANG": "C.UTF-8"}
    done = subprocess.run(argv, capture_output=True, text=True, env=environment, check=False)
    if done.returncode and "not loaded" not in done.stderr:
        raise UnitError(f"{argv[0]}: {done.stderr.strip() or done.returncode}")
    return done.stdout
