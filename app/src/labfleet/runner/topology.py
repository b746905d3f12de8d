"""What the publisher declares at the broker; nobody else declares anything.

Names are the contract's (docs/architecture.md). Everything is durable; the truth is in Postgres,
so that losing all of it loses nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from amqp import Channel, Connection
from amqp.exceptions import PreconditionFailed

from labfleet.config import PublisherSection
from labfleet.log import get_logger
from labfleet.names import worker_key

TASKS = "labfleet.tasks"
CONTROL = "labfleet.control"
DEAD = "labfleet.dead"
CONTROL_TTL_MS = 60_000
"""A cancel that no worker has read for so long is stale: heartbeats tell it too."""
CONTROL_MAX_LENGTH = 1_000
DEAD_MAX_LENGTH = 10_000

log = get_logger(__name__)
Step = Callable[[Channel], object]


def key_queue(key: str) -> str:
    """The queue of a routing key."""
    return f"labfleet.key.{key}"


def worker_queue(worker: str) -> str:
    """The queue of the tasks that are meant for this worker."""
    return f"labfleet.worker.{worker}"


def control_queue(worker: str) -> str:
    """The queue on which a worker hears of cancels."""
    return f"labfleet.control.{worker}"


def declare(connection: Connection, settings: PublisherSection) -> None:
    """Declare all of it. What exists with other arguments is left as it is, with a warning.

    (The broker refuses to change the arguments of a queue; refusing to publish for that would
    stop the lab because of a changed limit.)
    """
    for step in _steps(settings):
        channel = connection.channel()
        try:
            step(channel)
            channel.close()
        except PreconditionFailed as error:
            log.warning(
                "declared differently at the broker; kept as it is",
                detail=error.reply_text,
                hint="delete it at the broker when it is empty: the publisher declares it anew",
            )


def _steps(settings: PublisherSection) -> Sequence[Step]:
    bindings = [(key_queue(key), key) for key in settings.keys]
    bindings += [(worker_queue(worker), worker_key(worker)) for worker in settings.workers]
    queues = [_task_step(queue, key, settings.delivery_limit) for queue, key in bindings]
    return [_exchanges, _dead, *queues, *map(_control_step, settings.workers)]


def _exchanges(channel: Channel) -> None:
    channel.exchange_declare(TASKS, "topic", durable=True, auto_delete=False)
    channel.exchange_declare(CONTROL, "fanout", durable=True, auto_delete=False)
    channel.exchange_declare(DEAD, "fanout", durable=True, auto_delete=False)


def _dead(channel: Channel) -> None:
    arguments = {"x-queue-type": "quorum", "x-max-length": DEAD_MAX_LENGTH}
    channel.queue_declare(DEAD, durable=True, auto_delete=False, arguments=arguments)
    channel.queue_bind(DEAD, DEAD)


def _task_step(queue: str, key: str, delivery_limit: int) -> Step:
    def step(channel: Channel) -> None:
        arguments = {
            "x-queue-type": "quorum",
            "x-delivery-limit": delivery_limit,
            "x-dead-letter-exchange": DEAD,
        }
        channel.queue_declare(queue, durable=True, auto_delete=False, arguments=arguments)
        channel.queue_bind(queue, TASKS, routing_key=key)

    return step


def _control_step(worker: str) -> Step:
    def step(channel: Channel) -> None:
        arguments = {
            "x-queue-type": "classic",
            "x-message-ttl": CONTROL_TTL_MS,
            "x-max-length": CONTROL_MAX_LENGTH,
        }
        channel.queue_declare(control_queue(worker), durable=True, auto_delete=False, arguments=arguments)
        channel.queue_bind(control_queue(worker), CONTROL)

    return step
