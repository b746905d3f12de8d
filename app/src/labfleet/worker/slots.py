"""How many attempts may run here at once.

A slot is held by the attempt that this process looks after; units that an earlier process has started
and that still run hold one too.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from labfleet.log import get_logger
from labfleet.worker.bus import BusError

log = get_logger(__name__)
LOOK_AGAIN_SECONDS = 1.0


class Slots:
    """Thread-safe. `running` lists the units that run now (asked for only while there are older ones)."""

    def __init__(self, total: int, running: Callable[[], set[str]]) -> None:
        self.total = total
        self._running = running
        self._changed = threading.Condition()
        self._held: set[str] = set()
        self._older = running()

    def acquire(self, name: str, given_up: Callable[[], bool]) -> bool:
        """Wait for a slot. False when this attempt holds one already, or nobody waits any more."""
        with self._changed:
            if name in self._held or given_up():
                return False
            while self._taken() >= self.total and name not in self._older:
                if given_up():
                    return False
                self._changed.wait(LOOK_AGAIN_SECONDS)
                self._refresh()
            self._held.add(name)
            self._older.discard(name)
            return True

    def release(self, name: str) -> None:
        """Give the slot back."""
        with self._changed:
            self._held.discard(name)
            self._changed.notify()

    def free(self) -> int:
        """Slots that nobody holds."""
        with self._changed:
            self._refresh()
            return max(0, self.total - self._taken())

    def _taken(self) -> int:
        return len(self._held) + len(self._older)

    def _refresh(self) -> None:
        if not self._older:
            return
        try:
            self._older &= self._running()
        except BusError as error:
            log.warning("systemd was not heard: units count as running", error=str(error))
