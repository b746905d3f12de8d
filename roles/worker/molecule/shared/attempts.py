"""Runs attempts on this machine as its worker does, with its systemd and its sandbox: SCENARIO → JSON.

For the worker's user, from a release, with `attempt_server.py` beside this file.
"""

import json
import os
import signal
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attempt_server import Attempt, FrontEnd

from labfleet.config import forget, worker_settings
from labfleet.worker import units
from labfleet.worker.bus import Bus
from labfleet.worker.nursery_client import Nursery
from labfleet.worker.slots import Slots
from labfleet.worker.starter import ATTEMPTS, Order, Starter

NAME = "labfleet-try"
TOKEN = "la_try"
LONGEST_SECONDS = 240
BOUNDS = ("MemoryMax", "MemorySwapMax", "TasksMax", "CPUQuotaPerSecUSec")
WAITS = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (print("told to end", flush=True), sys.exit(3)))
print("began", flush=True)
deadline = time.monotonic() + 60
while not os.path.exists(os.environ["LABFLEET_OUTPUTS"] + "/go") and time.monotonic() < deadline:
    time.sleep(0.05)
"""
BURNS = "import time\nwhile time.process_time() < 0.5: pass\n"


class Try:
    """A worker's starter, without a broker, and a front end for it."""

    def __init__(self, directory: Path, server: FrontEnd, *, nursery: bool) -> None:
        config = directory / "worker.toml"
        config.write_text(
            f'[worker]\nname = "try"\nwork_directory = "{directory}"\ngrace_seconds = 5\n'
            f'[front_ends.web]\nurl = "{server.url}"\n[log]\nlevel = "error"\n'
        )
        os.environ["LABFLEET_CONFIG"] = str(config)
        forget()

        self.directory, self.server = directory, server
        self.nursery = Nursery(directory / ATTEMPTS, NAME if nursery else f"{NAME}-none")
        if nursery:
            self.nursery.open()
        else:
            self.nursery.open = lambda: None  # type: ignore[method-assign]
        slots = Slots(4, units.running)
        self.starter = Starter(worker_settings(), slots, lambda: False, self.nursery, {"os": "try"})

    def begin(self, code: str, **values: Any) -> "Run":
        """Start an attempt in a thread; returns when its program has begun."""
        attempt = Attempt(str(uuid.uuid4()), token=TOKEN, files={"main.py": code}, **values)
        run = Run(self, self.server.add(attempt))
        run.thread.start()
        return run


class Run:
    """An attempt that runs."""

    def __init__(self, worker: Try, attempt: Attempt) -> None:
        self.attempt = attempt
        self.unit = units.unit_name(attempt.task, 1)
        self.place = worker.directory / ATTEMPTS / f"{attempt.task}.1"
        order = Order("web", attempt.task, 1, TOKEN)
        self.thread = threading.Thread(target=worker.starter.run, args=(order,))

    def until_it_began(self) -> "Run":
        wait_for(lambda: b"began" in self.attempt.log)
        return self

    def go(self) -> None:
        (self.place / "outputs/go").touch()

    def end(self) -> dict[str, Any]:
        """What was said at the end, when the worker has tidied up."""
        self.thread.join(60)
        assert not self.thread.is_alive()
        assert not self.place.exists()
        wait_for(lambda: self.unit not in units.running(), 5)
        return self.attempt.finish or {}

    def shepherd(self) -> int:
        """Its process."""
        (found,) = [
            int(path.parent.name)
            for path in Path("/proc").glob("[0-9]*/cmdline")
            if f"labfleet.worker.attempt {self.place}".encode() in path.read_bytes().replace(b"\0", b" ")
        ]
        return found


def wait_for(condition: Callable[[], Any], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextmanager
def trying(*, nursery: bool = True) -> Iterator[Try]:
    with tempfile.TemporaryDirectory(prefix="labfleet-try-") as name, FrontEnd() as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield Try(Path(name), server, nursery=nursery)
        server.shutdown()
    if nursery:
        with Bus() as bus:
            bus.run_job("StopUnit", "ss", f"{NAME}.service", "replace")


def nursery_process() -> int:
    with Bus() as bus:
        (path,) = bus.manager("GetUnit", "s", f"{NAME}.service")
        return int(bus.read(path, "Service", "MainPID"))


def group(pid: int) -> str:
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    return next(line for line in lines if line.startswith(("0::", "1:name=systemd:"))).rpartition("/")[2]


def begins_in_a_scope_of_its_own() -> dict[str, Any]:
    with trying() as worker:
        run = worker.begin(WAITS).until_it_began()
        pid = run.shepherd()
        with Bus() as bus:
            (path,) = bus.manager("GetUnit", "s", f"{run.unit}.scope")
            bounds = {name: bus.read(path, "Scope", name) for name in BOUNDS}
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        found = {
            "group": group(pid) == f"{run.unit}.scope",
            "nursery": group(nursery_process()),
            "bounds": bounds,
            "no_new_privileges": status["NoNewPrivs"],
            "umask": status["Umask"],
            "oom_score": Path(f"/proc/{pid}/oom_score_adj").read_text().strip(),
            "session": os.getsid(pid) == pid,
        }
        run.go()
        return found | {"outcome": run.end()["outcome"]}


def survives_the_nursery() -> dict[str, Any]:
    with trying() as worker:
        run = worker.begin(WAITS).until_it_began()
        first = nursery_process()
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: nursery_process() not in {0, first})
        time.sleep(2)
        running = run.unit in units.running()
        run.go()
        said = run.end()
        again = worker.begin(BURNS)
        return {"running": running, "outcome": said["outcome"], "next": again.end()["outcome"]}


def begins_without_a_nursery() -> dict[str, Any]:
    with trying(nursery=False) as worker:
        run = worker.begin(WAITS).until_it_began()
        found = {"group": group(run.shepherd()) == f"{run.unit}.service"}
        run.go()
        return found | {"outcome": run.end()["outcome"]}


def is_stopped_gently() -> dict[str, Any]:
    found = {}
    for nursery in (True, False):
        with trying(nursery=nursery) as worker:
            run = worker.begin(WAITS).until_it_began()
            units.stop(run.unit)
            said = run.end()
            found[str(nursery)] = [said["outcome"], b"told to end" in run.attempt.log]
    return found


def tells_of_a_shepherd_that_was_killed() -> dict[str, Any]:
    found = {}
    for nursery in (True, False):
        with trying(nursery=nursery) as worker:
            run = worker.begin(WAITS).until_it_began()
            os.kill(run.shepherd(), signal.SIGKILL)
            said = run.end()
            found[str(nursery)] = [said["outcome"], said["failure"], said["message"]]
    return found


def measures_and_remembers() -> dict[str, Any]:
    with trying() as worker:
        first, second = worker.begin(BURNS), worker.begin(BURNS)
        ends = [first.end(), second.end()]
        third = worker.begin(BURNS)
        third.end()
        told = {name: ends[0][name] for name in ("usage", "environment")}
        return told | {"fetches": third.attempt.fetches}


if __name__ == "__main__":
    signal.alarm(LONGEST_SECONDS)
    print(json.dumps(globals()[sys.argv[1]]()))
