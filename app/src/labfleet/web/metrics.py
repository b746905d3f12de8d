"""Figures of the web application: requests, and how long tasks have waited and run."""

from __future__ import annotations

import time

from apiflask import APIFlask
from flask import Response, g, request

from labfleet.db.models import Task
from labfleet.jobs.finishing import Ending
from labfleet.metrics import Counter, Histogram

REQUESTS = Counter("labfleet_http_requests", "Requests that were answered.", ["method", "route", "status"])
SECONDS = Histogram(
    "labfleet_http_request_seconds",
    "Time until the answer's header, as the application sees it.",
    ["route"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
_LONG = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14400, 86400)
WAITED = Histogram(
    "labfleet_task_wait_seconds",
    "From submission to the beginning of the first attempt.",
    ["key"],
    buckets=_LONG,
)
RAN = Histogram(
    "labfleet_attempt_run_seconds",
    "How long the program of an attempt ran, as its worker says.",
    ["key", "outcome"],
    buckets=_LONG,
)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def register(app: APIFlask) -> None:
    """Count every request by its route, never by its address: that would make a figure of each job."""
    app.before_request(_begin)
    app.after_request(_end)


def _begin() -> None:
    g.began = time.perf_counter()


def _end(response: Response) -> Response:
    route = request.url_rule.rule if request.url_rule else "none"
    method = request.method if request.method in METHODS else "other"
    REQUESTS.labels(method, route, str(response.status_code)).inc()
    if began := g.get("began"):
        SECONDS.labels(route).observe(time.perf_counter() - began)
    return response


def begun(task: Task) -> None:
    """The first attempt of the task begins now."""
    if task.attempt == 1 and task.resends == 0:
        WAITED.labels(task.key).observe(max(time.time() - task.created_at.timestamp(), 0))


def ended(key: str, ending: Ending) -> None:
    """An attempt has ended."""
    outcome = f"failed, {ending.failure}" if ending.failure else str(ending.outcome)
    RAN.labels(key, outcome).observe(ending.usage.get("wall_seconds", 0))
