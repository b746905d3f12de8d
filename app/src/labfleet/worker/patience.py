"""Keep trying while a front end is away, for as long as it makes sense."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from labfleet.worker.client import Away

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 5.0
T = TypeVar("T")


class Patience:
    """Repeats calls that find the front end away, until it has been away for `seconds` on end.

    One for all threads of an attempt: what one of them reaches shows that the front end is there.
    """

    def __init__(self, seconds: float, given_up: threading.Event | None = None) -> None:
        self._seconds = seconds
        self._given_up = given_up or threading.Event()
        self._last_reached = time.monotonic()

    def reached(self) -> None:
        """The front end has answered just now."""
        self._last_reached = time.monotonic()

    @property
    def exhausted(self) -> bool:
        """Whether there is no point in trying again."""
        return self._given_up.is_set() or time.monotonic() - self._last_reached > self._seconds

    def call(self, action: Callable[[], T]) -> T:
        """The result of `action`; `Away` when patience has run out, `Refused` at once.

        It runs out as well when only this call has found nobody for so long: other parts of the front end
        may answer while its store is full.
        """
        pause, failing_since = FIRST_PAUSE_SECONDS, None
        while True:
            try:
                result = action()
            except Away:
                failing_since = failing_since or time.monotonic()
                if self.exhausted or time.monotonic() - failing_since > self._seconds:
                    raise
                # Spread, so that a fleet doesn't come back at one instant.
                self._given_up.wait(pause * random.uniform(0.5, 1.5))  # noqa: S311
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            else:
                self.reached()
                return result
