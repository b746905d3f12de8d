"""Row 27: a no-op from submission to its end, however many tasks are queued."""

from __future__ import annotations

import os
from collections.abc import Iterator

from acceptance import admin
from acceptance.api import Api, Json
from acceptance.lab import Lab

from .figures import Figure, quantile
from .noop import milliseconds, one
from .throughput import end, sign_in, submit

SAMPLES = 40
JOB = 100_000
"""Tasks of one job, as many as a job may have by default."""
LARGE = int(os.environ.get("LABFLEET_BENCH_QUEUED", "1000000"))


def figures(lab: Lab) -> Iterator[Figure]:
    """The medians with 100, 100,000 and 1,000,000 tasks queued; these wait for a tag that no worker has."""
    admin.import_protocols(lab.machine("webserver"), "noop")
    api = sign_in(lab)
    waiting: list[Json] = [submit(api, 100, needs={"tags": ["benchmark"]})]
    try:
        few = median(api)
        yield Figure(27, "no-op with 100 queued, p50", few, "ms")
        for total in (JOB, LARGE):
            queued = sum(job["counts"]["total"] for job in waiting)
            while queued + JOB <= total + 100:
                waiting.append(submit(api, JOB, needs={"tags": ["benchmark"]}))
                queued += JOB
            yield Figure(27, f"no-op with {queued} queued, p50", median(api), "ms", few, "with 100", 1.2)
    finally:
        for job in waiting:
            end(api, job)


def median(api: Api) -> float:
    """Of the times from submission to the end, by the database's clock."""
    for _ in range(3):
        one(api)
    histories = [one(api) for _ in range(SAMPLES)]
    return quantile([milliseconds(history[0], history[-1]) for history in histories], 0.5)
