"""Row 30: how long pages and the API let people wait while all slots are full, against an idle lab."""

from __future__ import annotations

import itertools
import re
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import httpx
from acceptance import admin
from acceptance.api import Api, Json
from acceptance.lab import Lab
from acceptance.waiting import wait_for

from .figures import Figure, quantile
from .throughput import end, sign_in

PROTOCOLS = Path(__file__).parent / "protocols"
RATE = 50
"""Requests a second, sent when they are due, whatever became of those before."""
SECONDS = 20
CONNECTIONS = 16
CSRF = re.compile(r'name="csrf_token" value="([^"]+)"')


def figures(lab: Lab) -> Iterator[Figure]:
    """The 99th percentile of pages and of the API, from when a request was due to its answer's last byte."""
    admin.import_protocols(lab.machine("webserver"), "noop")
    admin.import_protocols(lab.machine("webserver"), "busy", root=PROTOCOLS)
    api = sign_in(lab)
    shown = api.submit("acceptance-noop", label="looked at by a benchmark")
    api.wait(shown)
    pages = ["/", "/jobs", f"/jobs/{shown['id']}", "/protocols"]
    calls = ["/api/v1/jobs", f"/api/v1/jobs/{shown['id']}", "/api/v1/protocols", "/api/v1/workers"]
    with closing(browser(lab)) as http:
        ask(http, api, pages + calls, 5)
        idle = ask(http, api, pages + calls, SECONDS)
        job = fill(api)
        try:
            full = ask(http, api, pages + calls, SECONDS)
            running = api.get(f"jobs/{job['id']}")["counts"]
        finally:
            end(api, job)
    name = f"all {running.get('running', 0)} slots full, {RATE} requests/s"
    for kind, paths in (("pages", pages), ("API", calls)):
        under, alone = (sorted(itertools.chain(*(times[path] for path in paths))) for times in (full, idle))
        yield Figure(
            30, f"{kind}, p99, {name}", quantile(under, 0.99), "ms", quantile(alone, 0.99), "idle", 2
        )
        yield Figure(30, f"  {kind}, p50", quantile(under, 0.5), "ms", quantile(alone, 0.5), "idle")


def browser(lab: Lab) -> httpx.Client:
    """A client with the cookie of somebody who has signed in on the page."""
    context = ssl.create_default_context(cafile=str(lab.ca_file))
    limits = httpx.Limits(max_connections=2 * CONNECTIONS, max_keepalive_connections=2 * CONNECTIONS)
    http = httpx.Client(base_url=lab.url, verify=context, timeout=60, limits=limits)
    token = CSRF.search(http.get("/sign-in").text)
    assert token is not None, "the page that asks for a password has no form"
    form = {"csrf_token": token[1], "user": "admin", "password": lab.secret("admin_password"), "next": "/"}
    answer = http.post("/sign-in", data=form)
    assert answer.status_code == 303, answer.text
    return http


def fill(api: Api) -> Json:
    """As many tasks that want a whole core as there are slots, all running."""
    slots = sum(worker["slots"] for worker in api.get("workers")["items"])
    sweep = {"grid": {"parameters.number": list(range(slots))}}
    leaf = {"protocol": "benchmark-busy", "parameters": {"seconds": 4 * SECONDS}, "sweep": sweep}
    answer = api.http.post("/api/v1/jobs", json={"tree": {"task": "busy", **leaf}})
    assert answer.status_code == 201, answer.text
    job: Json = answer.json()
    wait_for(
        lambda: api.get(f"jobs/{job['id']}")["counts"].get("running") == slots, 60, "all slots to be full"
    )
    return job


def ask(http: httpx.Client, api: Api, paths: list[str], seconds: float) -> dict[str, list[float]]:
    """Ask the paths in turn, `RATE` a second; milliseconds of each answer, its wait for a turn included."""
    begin = time.perf_counter()

    def one(number: int) -> tuple[str, float]:
        path, due = paths[number % len(paths)], begin + number / RATE
        time.sleep(max(0.0, due - time.perf_counter()))
        answer = (api.http if path.startswith("/api/") else http).get(path)
        assert answer.status_code == 200, f"{path} → {answer.status_code} {answer.text[:500]}"
        return path, (time.perf_counter() - due) * 1000

    times: dict[str, list[float]] = {path: [] for path in paths}
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        for path, took in pool.map(one, range(int(RATE * seconds))):
            times[path].append(took)
    return times
