"""A task that kills its worker, a worker that is cut off, and workers whose clocks are wrong."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from acceptance.api import Api
from acceptance.lab import Machine
from acceptance.waiting import wait_for

from . import faults, ledger, promises
from .ledger import Entry
from .load import Load

KILLER = """
while sleep 0.2; do
    if [ -n "$(systemctl --user list-units --plain --no-legend --state=active '{units}')" ]; then
        kill -KILL "$(systemctl show --value -p MainPID labfleet-worker)"
        systemctl --user kill -s KILL '{units}'
    fi
done
"""
LEASE_SECONDS = 10
"""What the test lab's inventory says."""

CLOCK = "/run/labfleet-clock"
SOURCE = "/run/labfleet-clock.c"
LIBRARY = "/usr/local/lib/labfleet-clock.so"


def one(database: Machine, label: str) -> Entry:
    """The one task of a label."""
    (entry,) = ledger.entries(database, label)
    return entry


def wait_running(database: Machine, label: str, attempt: int, seconds: float = 30) -> Entry:
    """The one task of a label once that attempt runs."""

    def probe() -> Entry | None:
        entry = one(database, label)
        return entry if (entry.state, entry.attempt) == ("running", attempt) else None

    return wait_for(probe, seconds, f"attempt {attempt} to run", lambda: one(database, label))


def test_poison(user: Api, load: Load, worker: Machine, database: Machine) -> None:
    """Whenever the poisoned task runs, all its processes and its worker's service are killed."""
    poison = Load(user, f"{load.label} poison")
    poison.submit(1, seconds=60)
    task = wait_running(database, poison.label, 1)
    with faults.as_worker(worker, "fault-poison", KILLER.format(units=f"labfleet-attempt-{task.id}-*")):
        load.submit(10)
        bound = promises.MAX_ATTEMPTS * (LEASE_SECONDS + 15)
        (end,) = ledger.settle(database, poison.label, bound)
    assert (end.state, end.failure, end.attempt, end.claims) == ("failed", "system", 3, 3), end
    assert (end.endings, end.successes, end.marks) == (1, 0, 0), end
    assert end.message.startswith("Given up after 3 attempts."), end.message
    booked = ledger.settle(database, load.label, promises.FINAL_SECONDS)
    assert (len(booked), ledger.unbalanced([entry for entry in booked if entry.id != end.id])) == (10, [])
    faults.wait_active(worker, faults.WORKER)


def test_partition(user: Api, load: Load, spare: Machine, worker: Machine, database: Machine) -> None:
    """Cut off, the worker goes on and finishes what has begun anew elsewhere; nobody hears it afterwards."""
    with faults.only(spare, worker):
        load.submit(1, seconds=LEASE_SECONDS + 8)
        old = wait_running(database, load.label, 1)
        with faults.partition(spare, worker):
            worker.run(f"systemctl start {faults.WORKER}")
            new = wait_running(database, load.label, 2, seconds=promises.FINAL_SECONDS)
            wait_for(lambda: finishing(spare, old.id), 60, "the cut-off attempt to have its result")
        assert (old.worker, new.worker) == (spare.name, worker.name)
        wait_for(lambda: not attempts(spare), 60, "the cut-off attempt to be gone")
        (end,) = ledger.settle(database, load.label, 60)
    assert (end.state, end.attempt, end.worker) == ("success", 2, worker.name), end
    assert ledger.unbalanced([end]) == []
    artifacts = user.get(f"tasks/{end.id}/artifacts")["items"]
    assert len(artifacts) == 1, artifacts
    assert ledger.outcomes(database, end.id) == {1: "lapsed", 2: "success"}


def attempts(machine: Machine) -> str:
    """The attempts' directories that are on the machine."""
    return machine.run("ls /var/lib/labfleet-worker/attempts").strip()


def finishing(machine: Machine, task: str) -> bool:
    """Whether the first attempt's program has written what it should leave."""
    path = f"/var/lib/labfleet-worker/attempts/{task}.1/outputs/mark.txt"
    return bool(machine.run(f"cat {path} 2>/dev/null || true"))


@pytest.fixture
def faked(spare: Machine, worker: Machine) -> Iterator[Machine]:
    """The spare worker and its attempts see the clock that the file CLOCK tells, and nobody else works."""
    spare.run("DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends tcc")
    source = (Path(__file__).parent / "wall_clock.c").read_text()
    # A compiler that small says nothing of its stack, so the loader would make it executable.
    text = f"[Service]\nEnvironment=LD_PRELOAD={LIBRARY}\nMemoryDenyWriteExecute=no\n"
    paths = [f"/etc/systemd/{kind}/labfleet-.service.d/90-clock.conf" for kind in ("system", "user")]
    with ExitStack() as stack:
        stack.callback(restart, spare)
        stack.enter_context(faults.files(spare, {SOURCE: source, CLOCK: "0\n", **dict.fromkeys(paths, text)}))
        spare.run(f"tcc -nostdlib -shared -DCLOCK_FILE='\"{CLOCK}\"' -o {LIBRARY} {SOURCE}")
        restart(spare)
        stack.enter_context(faults.only(spare, worker))
        yield spare


def restart(machine: Machine) -> None:
    """The user's systemd with its units as their files now say."""
    machine.run(f"systemctl daemon-reload; systemctl restart user@$(id -u {faults.WORKER_USER})")


def set_clock(machine: Machine, seconds: int) -> None:
    """The worker's processes believe that it is so much later (earlier, if negative)."""
    machine.run(f"echo {seconds} > {CLOCK}")


def test_clock(load: Load, faked: Machine, database: Machine) -> None:
    """The clock jumps twice while a long task runs, and is wrong from the beginning for the others."""
    load.submit(1, seconds=2.6 * LEASE_SECONDS)
    wait_running(database, load.label, 1)
    for seconds in (300, -300):
        set_clock(faked, seconds)
        assert abs(clock_of_worker(faked, database) - seconds) < 30
        load.submit(3, seconds=1)
        time.sleep(LEASE_SECONDS * 0.8)
    booked = ledger.settle(database, load.label, LEASE_SECONDS + promises.FINAL_SECONDS)
    assert ledger.unbalanced(booked) == []
    assert {(entry.worker, entry.attempt, entry.claims) for entry in booked} == {(faked.name, 1, 1)}


def clock_of_worker(machine: Machine, database: Machine) -> float:
    """How far the clock is off that every Python process of the worker's user sees."""
    deceived = (
        f"grep -l {LIBRARY} $(pgrep -u {faults.WORKER_USER} -f labfleet | sed 's|.*|/proc/&/maps|') | wc -l"
    )
    assert machine.run(deceived) == machine.run(f"pgrep -u {faults.WORKER_USER} -f labfleet | wc -l")
    return float(machine.run(f"LD_PRELOAD={LIBRARY} date +%s")) - ledger.now(database)
