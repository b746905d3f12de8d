"""Which tasks were placed just now: what has ended of them tells how fast their workers are."""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable

MOST = 500
"""Tasks that are remembered. Where more end in the time, workers seem slower than they are."""


class Recent:
    """Remembers tasks for `seconds`. A restart forgets them, and workers count as slow for a moment."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._placed: deque[tuple[float, uuid.UUID]] = deque(maxlen=MOST)

    def add(self, tasks: Iterable[uuid.UUID]) -> None:
        """These have been placed now."""
        now = self._clock()
        self._placed.extend((now, task) for task in tasks)

    def tasks(self) -> list[uuid.UUID]:
        """Those that were placed within the time."""
        oldest = self._clock() - self._seconds
        while self._placed and self._placed[0][0] < oldest:
            self._placed.popleft()
        return [task for _, task in self._placed]
