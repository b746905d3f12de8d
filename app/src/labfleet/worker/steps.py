"""Celery's consumer, cut down to what a worker may do: it declares nothing and publishes nothing.

It reads the queues of its keys and its own one; while it is drained only its own one, so that what was
meant for it still runs.

The worker's broker user may only read. Celery's usual consumer also talks to other workers (mingle,
gossip, events, remote control) and declares queues for delayed delivery; none of that is here.
"""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import Any, ClassVar

from amqp.exceptions import NotFound
from celery import bootsteps
from celery.worker.consumer import Consumer, tasks
from celery.worker.consumer.connection import Connection
from kombu.entity import Queue
from kombu.messaging import Consumer as MessageConsumer

from labfleet.config import worker_settings
from labfleet.log import get_logger
from labfleet.names import worker_key
from labfleet.worker import units

log = get_logger(__name__)
WAKE_SECONDS = 0.5
MISSING_QUEUE_SECONDS = 2.0
RECONNECT_SECONDS = 5
"""The longest pause between two attempts to reach the broker."""
QUORUM = {"x-queue-type": "quorum"}
KEY_QUEUE = "labfleet.key."
draining = threading.Event()
"""Set while a front end drains this worker."""


def key_queue(key: str) -> Queue:
    """The queue of a key, as the publisher has declared it."""
    return _task_queue(f"{KEY_QUEUE}{key}", key)


def own_queue(worker: str) -> Queue:
    """The queue of the tasks that are meant for this worker."""
    return _task_queue(f"labfleet.worker.{worker}", worker_key(worker))


def _task_queue(name: str, key: str) -> Queue:
    # Celery has to know that it is a quorum queue: these refuse a prefetch count for a whole channel.
    return Queue(name, routing_key=key, no_declare=True, queue_arguments=QUORUM)  # type: ignore[no-untyped-call]


def drain(wanted: bool) -> None:
    """Stop reading the keys' queues within `WAKE_SECONDS`, or begin again. For any thread."""
    if wanted == draining.is_set():
        return
    log.info("drained: only its own queue is read" if wanted else "not drained any more")
    if wanted:
        draining.set()
    else:
        draining.clear()


def control_queue(worker: str) -> Queue:
    """The queue on which this worker hears of cancels."""
    return Queue(f"labfleet.control.{worker}", no_declare=True)  # type: ignore[no-untyped-call]


class Tasks(tasks.Tasks):  # type: ignore[misc,unused-ignore]
    """Celery's own, directly on the connection."""

    requires = (Connection,)

    def start(self, consumer: Any) -> None:
        """Celery's own, on the queues that are to be read."""
        for name in _unwanted(consumer):
            consumer.app.amqp.queues.deselect(name)
        super().start(consumer)


def _unwanted(consumer: Any) -> list[str]:
    """Queues that are read, or were to be, and must not be while the worker is drained."""
    if not draining.is_set():
        return []
    return [name for name in consumer.app.amqp.queues.consume_from if name.startswith(KEY_QUEUE)]


class ReadingConsumer(Consumer):  # type: ignore[misc,unused-ignore]
    """Connection, tasks, event loop; the `Cancels` step comes from the application."""

    # What the steps that are left out would have set.
    event_dispatcher = None
    heart = None
    pidbox = None

    def ensure_connected(self, conn: Any) -> Any:
        """Celery's own, whose pauses grow to half a minute: so long would the fleet rest after the repair."""
        conn.ensure_connection = partial(conn.ensure_connection, interval_max=RECONNECT_SECONDS)
        return super().ensure_connected(conn)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Celery's own; a queue that isn't there is waited for, not asked for hundreds of times a second."""
        if isinstance(exc, NotFound):
            log.warning(
                "a queue is missing at the broker",
                detail=exc.reply_text,
                hint="the publisher declares it: is this worker, and are its keys, in queue.toml?",
            )
            time.sleep(MISSING_QUEUE_SECONDS)
        super().on_connection_error_after_connected(exc)

    def register_with_event_loop(self, hub: Any) -> None:
        """Celery's own, and a timer: a loop that sleeps until the next message doesn't see SIGTERM."""
        super().register_with_event_loop(hub)
        hub.timer.call_repeatedly(WAKE_SECONDS, self.follow)

    def follow(self) -> None:
        """Read the queues that are to be read now (in the event loop: a channel isn't for two threads)."""
        for name in _unwanted(self):
            self.cancel_task_queue(name)
        if not draining.is_set():
            queues = self.app.amqp.queues
            for name in [name for name in queues if name not in queues.consume_from]:
                self.add_task_queue(name)

    class Blueprint(Consumer.Blueprint):  # type: ignore[misc,unused-ignore]
        """The steps."""

        default_steps: ClassVar[list[str]] = [
            "celery.worker.consumer.connection:Connection",
            "labfleet.worker.steps:Tasks",
            "celery.worker.consumer.consumer:Evloop",
        ]


class Cancels(bootsteps.ConsumerStep):  # type: ignore[misc,unused-ignore]
    """Listens for cancels and stops the attempt's unit, if it runs here."""

    requires = (Tasks,)

    def get_consumers(self, channel: Any) -> list[MessageConsumer]:
        """One consumer without acknowledgements: a lost cancel still arrives with a heartbeat."""
        return [
            MessageConsumer(  # type: ignore[no-untyped-call]
                channel,
                queues=[control_queue(worker_settings().worker.name)],
                auto_declare=False,
                no_ack=True,
                accept=["json"],
                callbacks=[self.on_cancel],
                on_decode_error=self.on_undecodable,
            )
        ]

    def on_cancel(self, body: Any, message: Any) -> None:
        """Stop the unit, in a thread: the event loop doesn't wait for systemd."""
        try:
            name = units.unit_name(str(body["task"]), int(body["attempt"]))
        except (KeyError, TypeError, ValueError) as error:
            self.on_undecodable(message, error)
            return
        threading.Thread(target=_stop, args=(name,), name=f"cancel {name}", daemon=True).start()

    @staticmethod
    def on_undecodable(message: Any, error: Exception) -> None:
        """Nothing that somebody puts into the exchange may end the worker."""
        log.warning("a cancel that makes no sense was dropped", error=str(error))


def _stop(name: str) -> None:
    if name in units.running():
        log.info("cancelled", unit=name)
        units.stop(name)
