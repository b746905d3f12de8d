"""Row 26: a no-op from submission to its end on an idle lab, against a bare sandbox that does nothing."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise

from acceptance import admin
from acceptance.api import FINAL, Api, Json
from acceptance.lab import Lab, Machine

from .figures import Figure, quantile

TASKS = 60
WATCH_SECONDS = 0.2
"""Longer than a no-op takes: a look costs the web process time that would be counted."""
BARE = """
import json, subprocess, sys, time
argv = "bwrap --ro-bind / / --proc /proc --dev /dev --unshare-all python3 -c pass".split()
times = []
for _ in range(60):
    begin = time.perf_counter()
    subprocess.run(argv, check=True)
    times.append((time.perf_counter() - begin) * 1000)
json.dump(times, sys.stdout)
"""


def figures(lab: Lab) -> Iterator[Figure]:
    """Times by the database's clock, from the committed submission to the committed end."""
    admin.import_protocols(lab.machine("webserver"), "noop")
    api = Api.login(lab.url, lab.ca_file, "admin", lab.secret("admin_password"))
    for _ in range(5):
        one(api)
    histories = [one(api) for _ in range(TASKS)]
    bare = bare_sandbox(lab.machine("worker"))
    total = [milliseconds(history[0], history[-1]) for history in histories]
    middle = quantile(bare, 0.5)
    yield Figure(26, "no-op, submitted → done, p50", quantile(total, 0.5), "ms", None, "", 60)
    yield Figure(26, "no-op, submitted → done, p99", quantile(total, 0.99), "ms", None, "", 200)
    yield Figure(26, "the same, p50", quantile(total, 0.5), "ms", middle, "bare bwrap + python3 -c pass")
    yield from breakdown(histories)


def one(api: Api) -> list[Json]:
    """Submit one and give its events, oldest first."""
    job = api.submit("acceptance-noop")
    limit = time.monotonic() + 60
    while api.task(job)["state"] not in FINAL:
        assert time.monotonic() < limit, f"{job['id']} does not end"
        time.sleep(WATCH_SECONDS)
    task = api.task(job)
    assert task["state"] == "success", task
    return api.events(task)


def milliseconds(first: Json, last: Json) -> float:
    """Between two events."""
    begin, end = (datetime.fromisoformat(event["at"]) for event in (first, last))
    return (end - begin).total_seconds() * 1000


def breakdown(histories: list[list[Json]]) -> Iterator[Figure]:
    """The median of each step between two events."""
    steps: dict[str, list[float]] = {}
    for history in histories:
        # The dispatcher's own note may come before or after the claim, so it divides nothing.
        steady = [event for event in history if event["event"] != "dispatched"]
        for first, second in pairwise(steady):
            name = f"  of it {first['event']} → {second['event']}, p50"
            steps.setdefault(name, []).append(milliseconds(first, second))
    for name, values in steps.items():
        yield Figure(26, name, quantile(values, 0.5), "ms")


def bare_sandbox(worker: Machine) -> list[float]:
    """Milliseconds of each bare sandbox, started by Python as the worker's user."""
    command = worker.ssh("runuser", "-u", "labfleet-worker", "--", "python3", "-")
    done = subprocess.run(command, input=BARE.encode(), capture_output=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
    times: list[float] = json.loads(done.stdout)
    return times
