"""Clients that submit while a fault is on: each keeps asking, under one key, until its job is taken."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
from acceptance.api import Api, assert_problem

PROTOCOL = "resilience-mark"
CLIENTS = 4
PATIENCE_SECONDS = 60
PAUSE_SECONDS = 0.5


class Load:
    """Jobs of one label. `taken` has a job for each key, `seconds` how long each answer took, `refused` how
    many answers said that it can't be done just now, `broken` how many ended in their middle."""

    def __init__(self, api: Api, label: str) -> None:
        self.label = label
        self.taken: dict[str, str] = {}
        self.seconds: list[float] = []
        self.refused = 0
        self.broken = 0
        self._api = api
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.taken)

    def submit(self, count: int, seconds: float = 0, clients: int = CLIENTS) -> None:
        """Submit `count` tasks that take `seconds` each, by several clients at once, until all are taken."""
        with ThreadPoolExecutor(clients) as pool:
            for future in [pool.submit(self._one, seconds) for _ in range(count)]:
                future.result()

    @contextmanager
    def flowing(self, per_second: float) -> Iterator[None]:
        """Submit all the time, until the block ends."""
        stop = threading.Event()

        def flow() -> None:
            while not stop.wait(1 / per_second):
                self._one(0)

        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(flow)
            try:
                yield
            finally:
                stop.set()
            future.result()

    def _one(self, seconds: float) -> None:
        key = str(uuid.uuid4())
        limit = time.monotonic() + PATIENCE_SECONDS
        while (answer := self._ask(key, seconds)) is None or answer.status_code != 201:
            told = "a broken connection"
            if answer is None:
                self.broken += 1
            else:
                # The only other answer that a client may get: a clear one that says when to come again.
                assert_problem(answer, 503)
                assert int(answer.headers["Retry-After"]) > 0
                self.refused += 1
                told = answer.text
            assert time.monotonic() < limit, f"not taken within {PATIENCE_SECONDS} s: {told}"
            time.sleep(PAUSE_SECONDS)
        with self._lock:
            self.taken[key] = answer.json()["id"]

    def _ask(self, key: str, seconds: float) -> httpx.Response | None:
        """The answer; None where its sender died while it sent it."""
        parameters = {"mark": key, "seconds": seconds}
        body = {"protocol": PROTOCOL, "parameters": parameters, "label": self.label}
        begin = time.monotonic()
        try:
            return self._api.http.post("/api/v1/jobs", json=body, headers={"Idempotency-Key": key})
        except httpx.RemoteProtocolError:
            return None
        finally:
            with self._lock:
                self.seconds.append(time.monotonic() - begin)
