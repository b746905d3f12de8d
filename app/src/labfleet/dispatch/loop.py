"""What the resident processes share: wake on news or by the clock, outlive the database, end cleanly."""

from __future__ import annotations

import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import FrameType

import psycopg
from sqlalchemy.exc import DBAPIError

from labfleet import systemd
from labfleet.dispatch.listener import Listener
from labfleet.log import get_logger

_log = get_logger(__name__)
# The longest sleep in one piece: what a SIGTERM waits for at most, and the watchdog's beat.
SLICE = 0.5
RECONNECT = 1.0


class Loop(ABC):
    """Does its rounds until `stop` is called; outlives losses of the database.

    `status` is what systemd shows while the database answers.
    """

    def __init__(self, status: str, poll_seconds: float, listen: Callable[[], Listener]) -> None:
        self._status = status
        self._poll_seconds = poll_seconds
        self._listen = listen
        self._stopping = False

    @abstractmethod
    def round(self) -> None:
        """Do all that is due. Ends early when `stopping`."""

    @abstractmethod
    def next_due(self) -> float:
        """In how many seconds there is something to do, as far as is known; infinity for never."""

    @property
    def stopping(self) -> bool:
        """Whether the work in hand is the last."""
        return self._stopping

    def stop(self) -> None:
        """End after the work in hand."""
        self._stopping = True

    def stop_on_signals(self) -> None:
        """Let SIGTERM and SIGINT call `stop`."""

        def terminate(number: int, frame: FrameType | None) -> None:
            del number, frame
            self.stop()

        signal.signal(signal.SIGTERM, terminate)
        signal.signal(signal.SIGINT, terminate)

    def run(self) -> None:
        """Work until stopped."""
        while not self._stopping:
            try:
                self._connected()
            except (psycopg.OperationalError, DBAPIError) as error:
                _log.warning("database away, trying again", error=str(error).splitlines()[0])
                systemd.notify("WATCHDOG=1\nSTATUS=The database is away.")
                time.sleep(RECONNECT)

    def _connected(self) -> None:
        listener = self._listen()
        try:
            systemd.notify(f"READY=1\nSTATUS={self._status}")
            while not self._stopping:
                self.round()
                self._sleep(listener)
        finally:
            listener.close()

    def _sleep(self, listener: Listener) -> None:
        until = time.monotonic() + min(self._poll_seconds, self.next_due())
        while not self._stopping and (left := until - time.monotonic()) > 0:
            systemd.notify("WATCHDOG=1")
            if listener.wait(min(left, SLICE)):
                return
