"""Requests as AMQP messages: tasks in Celery's own words (protocol 2), cancels as plain JSON."""

from __future__ import annotations

from typing import Any

from amqp import Message
from celery import Celery
from kombu.serialization import dumps

from labfleet.names import worker_key
from labfleet.runner.shape import FIELDS
from labfleet.runner.topology import CONTROL, TASKS

TASK_NAME = "labfleet.run_attempt"
PERSISTENT = 2
# Never connects: it only knows how a task message is written.
_celery = Celery("labfleet.runner", set_as_current=False)


class Outgoing:
    """A message with its address, and the names by which its result is told."""

    def __init__(self, task: str, attempt: int, exchange: str, routing_key: str, message: Message) -> None:
        self.task = task
        self.attempt = attempt
        self.exchange = exchange
        self.routing_key = routing_key
        self.message = message

    def result(self, status: str) -> dict[str, Any]:
        """One entry of `results`."""
        return {"task": self.task, "attempt": self.attempt, "status": status}


def outgoing(verb: str, front_end: str, message: dict[str, Any]) -> Outgoing:
    """The AMQP message of one entry of a checked batch; `front_end` is the one that signed in.

    One that names a worker goes to that worker's own queue, one that names none to its key's.
    """
    task, attempt, worker = message["task"], message["attempt"], message.get("worker")
    if verb == "cancel":
        body = {"front_end": front_end, "task": task, "attempt": attempt}
        return Outgoing(task, attempt, CONTROL, "", _wrap(task, attempt, body, {}))
    kwargs = {"front_end": front_end, **{name: message[name] for name in FIELDS[verb]}}
    # The default kwargsrepr would copy the token into a header, and from there into logs.
    written = _celery.amqp.as_task_v2(
        f"{task}.{attempt}", TASK_NAME, kwargs=kwargs, argsrepr="()", kwargsrepr="{…}", ignore_result=True
    )
    address = worker_key(worker) if worker else message["key"]
    return Outgoing(task, attempt, TASKS, address, _wrap(task, attempt, written.body, written.headers))


def _wrap(task: str, attempt: int, body: Any, headers: dict[str, Any]) -> Message:
    content_type, encoding, payload = dumps(body, serializer="json")  # type: ignore[no-untyped-call]
    name = f"{task}.{attempt}"
    return Message(
        payload,
        content_type=content_type,
        content_encoding=encoding,
        delivery_mode=PERSISTENT,
        correlation_id=name,
        message_id=name,
        application_headers=headers,
    )
