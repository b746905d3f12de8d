"""Celery's consumer, cut down to what a worker may do: it declares nothing and publishes nothing.

The worker's broker user may only read. Celery's usual consumer also talks to other workers (mingle,
gossip, events, remote control) and declares queues for delayed delivery; none of that is here.
"""

from __future__ import annotations

import threading
import time
from typing import Any, ClassVar

from amqp.exceptions import NotFound
from celery import bootsteps
from celery.worker.consumer import Consumer, tasks
from celery.worker.consumer.connection import Connection
from kombu.entity import Queue
from kombu.messaging import Consumer as MessageConsumer

from labfleet.config import worker_settings
from labfleet.log import get_logger
from labfleet.worker import units

log = get_logger(__name__)
WAKE_SECONDS = 0.5
MISSING_QUEUE_SECONDS = 2.0
QUORUM = {"x-queue-type": "quorum"}


def key_queue(key: str) -> Queue:
    """The queue of a key, as the publisher has declared it."""
    # Celery has to know that it is a quorum queue: these refuse a prefetch count for a whole channel.
    return Queue(f"labfleet.key.{key}", routing_key=key, no_declare=True, queue_arguments=QUORUM)  # type: ignore[no-untyped-call]


def control_queue(worker: str) -> Queue:
    """The queue on which this worker hears of cancels."""
    return Queue(f"labfleet.control.{worker}", no_declare=True)  # type: ignore[no-untyped-call]


class Tasks(tasks.Tasks):  # type: ignore[misc,unused-ignore]
    """Celery's own, directly on the connection."""

    requires = (Connection,)


class ReadingConsumer(Consumer):  # type: ignore[misc,unused-ignore]
    """Connection, tasks, event loop; the `Cancels` step comes from the application."""

    # What the steps that are left out would have set.
    event_dispatcher = None
    heart = None
    pidbox = None

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
        hub.timer.call_repeatedly(WAKE_SECONDS, _wake)

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


def _wake() -> None:
    """Nothing to do: the event loop looks for a stop each time it comes round."""


def _stop(name: str) -> None:
    if name in units.running():
        log.info("cancelled", unit=name)
        units.stop(name)
