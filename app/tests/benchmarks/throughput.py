"""Rows 24 and 25: how many tasks in a second, accepted and confirmed, and run to their end."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from acceptance import admin
from acceptance.api import FINAL, Api, Json
from acceptance.lab import Lab, Machine
from acceptance.waiting import wait_for

from .figures import Figure

BATCH = 1000
BATCHES = 3
NO_OPS = 300
WATCH_SECONDS = 2.0
"""Seldom: the answer tells a hundred tasks and why they wait, which costs as much as running some of them."""
PYTHON = "/opt/labfleet/current/bin/python"
BARE_SANDBOXES = """
import json, subprocess, sys, time
from concurrent.futures import ThreadPoolExecutor
count, slots = int(sys.argv[1]), int(sys.argv[2])
argv = "bwrap --ro-bind / / --proc /proc --dev /dev --unshare-all python3 -c pass".split()
begin = time.perf_counter()
with ThreadPoolExecutor(slots) as pool:
    list(pool.map(lambda _: subprocess.run(argv, check=True), range(count)))
json.dump((time.perf_counter() - begin) * 1000 / count, sys.stdout)
"""


def publishing(lab: Lab) -> Iterator[Figure]:
    """Row 24: one sweep by the API, and as many messages in batches by the CGI runner, each confirmed.

    What the dispatcher really sends is bounded by the fleet's slots, so the two halves are timed one
    after the other; together they are what a task costs from the client to the broker's confirm.
    """
    admin.import_protocols(lab.machine("webserver"), "noop")
    api = sign_in(lab)
    job, accepted = timed(lambda: submit(api, BATCH * BATCHES, needs={"tags": ["benchmark"]}))
    end(api, job)
    told = on_queue(lab, "publish_on_queue.py")
    ours = accepted / (BATCH * BATCHES) + told["ours"]
    aim = 0.5  # twice as many in the same time
    yield Figure(
        24, "accepted and confirmed, a task", ours, "ms", told["celery"], "bare Celery, confirmed", aim
    )
    yield Figure(24, "  of it accepted by the API", accepted / (BATCH * BATCHES), "ms")
    yield Figure(24, "  of it confirmed by the broker", told["ours"], "ms")


def running(lab: Lab) -> Iterator[Figure]:
    """Row 25: a sweep of no-ops through everything, sandbox included, against bare sandboxes."""
    admin.import_protocols(lab.machine("webserver"), "noop")
    api = sign_in(lab)
    slots = sum(worker["slots"] for worker in api.get("workers")["items"])
    drained(api, submit(api, 2 * slots))
    job = drained(api, submit(api, NO_OPS))
    begin, finish = (datetime.fromisoformat(job[name]) for name in ("created_at", "finished_at"))
    ours = (finish - begin).total_seconds() * 1000 / NO_OPS
    bare = bare_sandboxes(lab.machine("worker"), slots)
    aim = 1 / 0.7
    yield Figure(
        25, f"a no-op through everything, {slots} slots", ours, "ms", bare, "bare bwrap, as many at once", aim
    )


def sign_in(lab: Lab) -> Api:
    """The lab's admin."""
    return Api.login(lab.url, lab.ca_file, "admin", lab.secret("admin_password"))


def submit(api: Api, count: int, **leaf: Any) -> Json:
    """A sweep of so many no-ops."""
    sweep = {"grid": {"parameters.number": list(range(count))}}
    tree = {"task": "n", "protocol": "acceptance-noop", "sweep": sweep, **leaf}
    answer = api.http.post("/api/v1/jobs", json={"tree": tree}, timeout=120)
    assert answer.status_code == 201, answer.text
    job: Json = answer.json()
    return job


def drained(api: Api, job: Json) -> Json:
    """The job once it has ended well."""
    limit = time.monotonic() + 300
    while (now := api.get(f"jobs/{job['id']}"))["state"] not in FINAL:
        assert time.monotonic() < limit, f"{job['id']} does not end: {now['counts']}"
        time.sleep(WATCH_SECONDS)
    assert now["state"] == "success", now["counts"]
    return now


def end(api: Api, job: Json) -> None:
    """Cancel and delete a job that nobody wants to end."""
    answer = api.http.post(f"/api/v1/jobs/{job['id']}/cancel", timeout=300)
    assert answer.is_success, answer.text
    # What runs is told to end, which takes its worker a moment.
    wait_for(lambda: api.get(f"jobs/{job['id']}")["state"] in FINAL, 60, "the job to be cancelled")
    answer = api.http.delete(f"/api/v1/jobs/{job['id']}", timeout=300)
    assert answer.is_success, answer.text


def timed(call: Any) -> tuple[Json, float]:
    """What a call answers, and its milliseconds."""
    begin = time.perf_counter()
    answer = call()
    return answer, (time.perf_counter() - begin) * 1000


def on_queue(lab: Lab, program: str) -> Any:
    """Run a program of this folder on the queue machine, by the release's Python; what it prints as JSON."""
    queue = lab.machine("queue")
    source = (Path(__file__).parent / program).read_bytes()
    broker = lab.of("rabbitmq")[0]
    wish = {
        "host": queue.private_address,
        "broker": broker.private_address,
        "batch": BATCH,
        "batches": BATCHES,
        "password": lab.secret("front_end_password_web"),
        "broker_password": lab.secret("broker_password_publisher"),
    }
    # The wish holds passwords, so it travels on standard input, after the program.
    starter = "import sys; exec(sys.stdin.buffer.read(int(sys.argv[1])))"
    workers = lab.of("worker")
    for machine in workers:
        machine.run("systemctl stop labfleet-worker")
    try:
        done = subprocess.run(
            queue.ssh(PYTHON, "-c", f"'{starter}'", str(len(source))),
            input=source + json.dumps(wish).encode(),
            capture_output=True,
            check=False,
            timeout=300,
        )
    finally:
        for machine in workers:
            machine.run("systemctl start labfleet-worker")
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def bare_sandboxes(worker: Machine, slots: int) -> float:
    """Milliseconds a bare sandbox, `slots` at once, started by Python as the worker's user."""
    command = worker.ssh("runuser", "-u", "labfleet-worker", "--", "python3", "-", str(NO_OPS), str(slots))
    done = subprocess.run(
        command, input=BARE_SANDBOXES.encode(), capture_output=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr.decode()
    return float(done.stdout)
