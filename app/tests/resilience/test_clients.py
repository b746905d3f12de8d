"""What clients do all at once: cancel, and send the same request a hundred times."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from acceptance.api import Api, Json
from acceptance.lab import Machine, processes
from acceptance.waiting import wait_for

from . import ledger, promises
from .load import PROTOCOL, Load

TIMES = 100


@pytest.fixture
def busy(load: Load) -> Iterator[None]:
    """Every slot has something to do for a while."""
    load.submit(2, seconds=6)
    yield


@pytest.mark.usefixtures("busy")
def test_cancel_queued(user: Api) -> None:
    jobs = [user.submit(PROTOCOL, {"mark": str(number), "seconds": 30}) for number in range(10)]
    for job in jobs:
        begin = time.monotonic()
        assert user.cancel(job).status_code == 200
        assert user.wait(job, "cancelled", seconds=promises.CANCEL_QUEUED_SECONDS)["attempt"] == 1
        assert time.monotonic() - begin <= promises.CANCEL_QUEUED_SECONDS


def test_cancel_running_deep_in_a_process_tree(user: Api, load: Load, worker: Machine) -> None:
    """Under load, with descendants that have left group and session."""
    marker = f"resilience-{uuid.uuid4()}"
    job = user.submit("acceptance-behave", {"action": "tree", "number": 100, "marker": marker})
    wait_for(lambda: user.task(job)["progress_text"], 60, "the first progress")
    assert len(processes(worker, marker)) >= 3
    with load.flowing(per_second=2):
        begin = time.monotonic()
        assert user.cancel(job).status_code == 200
        user.wait(job, "cancelled", seconds=promises.CANCEL_RUNNING_SECONDS)
        assert time.monotonic() - begin <= promises.CANCEL_RUNNING_SECONDS
        wait_for(lambda: not processes(worker, marker), 5, "the processes to be gone")


def test_the_same_key_a_hundred_times_at_once(user: Api, load: Load, database: Machine) -> None:
    key, body = str(uuid.uuid4()), {"protocol": PROTOCOL, "parameters": {"mark": "once"}, "label": load.label}

    def ask(number: int) -> httpx.Response:
        del number
        return user.http.post("/api/v1/jobs", json=body, headers={"Idempotency-Key": key})

    with ThreadPoolExecutor(TIMES) as pool:
        answers = list(pool.map(ask, range(TIMES)))
    assert {answer.status_code for answer in answers} == {201}
    jobs: list[Json] = [answer.json() for answer in answers]
    assert len({job["id"] for job in jobs}) == 1
    booked = ledger.settle(database, load.label, promises.FINAL_SECONDS)
    ledger.check(booked, 1, ledger.now(database), promises.FINAL_SECONDS)
