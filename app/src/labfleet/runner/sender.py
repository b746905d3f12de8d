"""The publisher's one thread that talks to the broker, and the door by which others give it batches."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import Empty, SimpleQueue

from labfleet.log import get_logger
from labfleet.runner import metrics
from labfleet.runner.broker import ERRORS, FAILED, Broker
from labfleet.runner.messages import Outgoing

TICK_SECONDS = 1.0
"""How often an idle sender looks after heartbeats (and sees that the broker has gone)."""
BACKOFF_SECONDS = (0.2, 5.0)
"""First and longest pause between two attempts to connect."""

log = get_logger(__name__)
Batch = tuple[Sequence[Outgoing], "Future[list[str]]"]


class BrokerAway(Exception):
    """There is no connection to the broker; the sender is trying to get one."""


class Sender(threading.Thread):
    """Takes batches from any thread and publishes them over one connection that it keeps alive."""

    def __init__(self, connect: Callable[[], Broker]) -> None:
        super().__init__(name="sender", daemon=True)
        self._connect = connect
        self._batches: SimpleQueue[Batch | None] = SimpleQueue()
        self._broker: Broker | None = None
        self._next_try = 0.0
        self._pause = BACKOFF_SECONDS[0]
        self.beat = time.monotonic()
        """When the thread last came round (the watchdog looks at it)."""

    @property
    def connected(self) -> bool:
        """Whether there is a connection, as far as we know."""
        return self._broker is not None

    def submit(self, batch: Sequence[Outgoing]) -> Future[list[str]]:
        """Statuses of the batch, in order; `BrokerAway` at once when there is no connection."""
        result: Future[list[str]] = Future()
        self._batches.put((batch, result))
        return result

    def stop(self) -> None:
        """Publish what was submitted, close the connection, end the thread."""
        self._batches.put(None)

    def run(self) -> None:
        """Until `stop`."""
        while True:
            self.beat = time.monotonic()
            self._ensure_connection()
            try:
                item = self._batches.get(timeout=TICK_SECONDS)
            except Empty:
                self._guarded(lambda broker: broker.tick())
                continue
            if item is None:
                break
            self._publish(*item)
        if self._broker:
            self._broker.close()

    def _publish(self, batch: Sequence[Outgoing], result: Future[list[str]]) -> None:
        if self._broker is None:
            result.set_exception(BrokerAway())
            return
        statuses: list[str] = [FAILED] * len(batch)

        def publish(broker: Broker) -> None:
            statuses[:] = broker.publish(batch)
            if broker.unsure:
                raise TimeoutError("the broker did not confirm in time")

        with metrics.SECONDS.time():
            self._guarded(publish)
        for status in statuses:
            metrics.MESSAGES.labels(status).inc()
        result.set_result(statuses)

    def _guarded(self, action: Callable[[Broker], None]) -> None:
        if self._broker is None:
            return
        try:
            action(self._broker)
        except ERRORS as error:
            log.warning("lost the broker", error=str(error))
            self._broker.close()
            self._broker = None
            metrics.CONNECTED.set(0)
            metrics.LOST.inc()
            self._pause = BACKOFF_SECONDS[0]

    def _ensure_connection(self) -> None:
        if self._broker or time.monotonic() < self._next_try:
            return
        try:
            self._broker = self._connect()
            log.info("connected to the broker")
            metrics.CONNECTED.set(1)
        except ERRORS as error:
            metrics.LOST.inc()
            log.warning("the broker can't be reached", error=str(error), next_try_seconds=self._pause)
            # Spread, so that several publishers don't come back at one instant.
            self._next_try = time.monotonic() + self._pause * random.uniform(0.7, 1.3)  # noqa: S311
            self._pause = min(2 * self._pause, BACKOFF_SECONDS[1])
