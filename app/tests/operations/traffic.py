"""Requests at a steady rate while something is done to the lab: none of them may fail."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import cast

import httpx
from acceptance.api import Api, connect
from acceptance.lab import Lab, Machine
from resilience import ledger

PER_SECOND = 20
THREADS = 200
"""More than come together while the application restarts: each request is sent when it is due."""
LONGEST = 180.0
SECONDS = 20.0
"""Each tenth task takes so long: some of them always run while a worker restarts."""
# What piled up while workers were updated takes its time: they have two slots each, on cores that all share.
SETTLE_SECONDS = 400
PATHS = ("me", "jobs?limit=5", "workers", "protocols", "health", "queue")
PROTOCOL = "operations-mark"


@dataclass
class Traffic:
    """What clients have seen: answers by status, what failed, how long each took, and the jobs taken."""

    label: str
    answered: int = 0
    failed: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """One line of figures."""
        slow = sorted(self.seconds)
        return (
            f"{self.answered} requests, {len(self.failed)} failed, {len(self.taken)} jobs; "
            f"median {slow[len(slow) // 2]:.3f} s, slowest {slow[-1]:.1f} s"
        )


@contextmanager
def traffic(lab: Lab, api: Api, label: str, per_second: int = PER_SECOND) -> Iterator[Traffic]:
    """Ask at a steady rate until the block ends; each tenth request submits a task, each fiftieth uploads."""
    seen, stop, lock = Traffic(label), threading.Event(), threading.Lock()
    # A client for each thread: each sees what becomes of its own connections.
    own, clients = threading.local(), list[httpx.Client]()

    def client() -> httpx.Client:
        if not hasattr(own, "client"):
            own.client = connect(lab.url, lab.ca_file, api.token)
            own.client.timeout = httpx.Timeout(LONGEST)
            clients.append(own.client)
        return cast("httpx.Client", own.client)

    def ask(number: int) -> None:
        begin = time.monotonic()
        try:
            answer = _request(client(), number, label)
            fault = (
                ""
                if answer.status_code < 300
                else f"{answer.request.url} → {answer.status_code} {answer.text}"
            )
        except httpx.HTTPError as error:
            answer, fault = None, repr(error)
        with lock:
            seen.answered += 1
            seen.seconds.append(time.monotonic() - begin)
            if fault:
                seen.failed.append(f"{time.strftime('%H:%M:%S')} {fault[:300]}")
            elif answer is not None and number % 10 == 0:
                seen.taken.append(answer.json()["id"])

    def run(pool: ThreadPoolExecutor) -> None:
        begin, number, asked = time.monotonic(), 0, set[Future[None]]()
        while not stop.wait(max(begin + number / per_second - time.monotonic(), 0)):
            asked = {future for future in asked if not future.done()} | {pool.submit(ask, number)}
            number += 1

    with ThreadPoolExecutor(THREADS) as pool:
        thread = threading.Thread(target=run, args=(pool,))
        thread.start()
        try:
            yield seen
        finally:
            stop.set()
            thread.join()
            pool.shutdown(wait=True)
            for one in clients:
                one.close()


def balanced(seen: Traffic, database: Machine) -> None:
    """No request failed, and every job that was taken has ended well, once."""
    assert seen.failed == []
    booked = ledger.settle(database, seen.label, SETTLE_SECONDS)
    assert ledger.unbalanced(booked) == []
    assert {*seen.taken} <= {
        row["id"] for row in ledger.query(database, f"SELECT id::text FROM jobs WHERE label = '{seen.label}'")
    }


def _request(client: httpx.Client, number: int, label: str) -> httpx.Response:
    if number % 10 == 0:
        seconds = SECONDS if number % 100 == 0 else 0
        parameters = {"mark": str(uuid.uuid4()), "seconds": seconds}
        body = {"protocol": PROTOCOL, "parameters": parameters, "label": label}
        return client.post("/api/v1/jobs", json=body)
    if number % 50 == 5:
        return client.post(f"/api/v1/datasets?name=traffic-{number}.csv", content=f"a\n{number}\n".encode())
    return client.get(f"/api/v1/{PATHS[number % len(PATHS)]}")
