"""How often one may try to sign in. Counted per process: with N processes up to N times as often."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from threading import Lock

from labfleet.errors import LabfleetError

MAX_KEYS = 10_000


class TooManyRequests(LabfleetError):
    """Too many attempts; `retry_after` (seconds) says how long to wait."""

    code = "too_many_requests"
    status = 429
    title = "Too many attempts"
    default_hint = "Wait, then try again."


class RateLimit:
    """At most `attempts` failures of each key in `window` seconds."""

    def __init__(self, attempts: int, window: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.attempts = attempts
        self.window = window
        self.clock = clock
        self._failures: dict[str, deque[float]] = {}
        self._lock = Lock()

    def check(self, *keys: str) -> None:
        """Raise `TooManyRequests` if one of the keys has failed too often."""
        with self._lock:
            waits = [self._wait(key) for key in keys]
        wait = max(waits, default=0)
        if wait > 0:
            seconds = int(wait) + 1
            raise TooManyRequests(f"Too many failed attempts; wait {seconds} s.", retry_after=seconds)

    def failed(self, *keys: str) -> None:
        """Count a failure of each key."""
        with self._lock:
            for key in keys:
                self._failures.setdefault(key, deque(maxlen=self.attempts)).append(self.clock())
            while len(self._failures) > MAX_KEYS:  # the oldest goes: memory stays bounded
                self._failures.pop(next(iter(self._failures)))

    def _wait(self, key: str) -> float:
        times = self._failures.get(key)
        if not times or len(times) < self.attempts:
            return 0
        return times[0] + self.window - self.clock()
