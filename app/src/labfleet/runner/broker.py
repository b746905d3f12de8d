"""The publisher's one connection to the broker: batches go out at once, confirms come back together.

Not for several threads: `sender.Sender` owns it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from amqp import Channel, Connection
from amqp.exceptions import AccessRefused, AMQPError

from labfleet import crash
from labfleet.config import QueueSettings
from labfleet.runner import topology
from labfleet.runner.messages import Outgoing

CONFIRMED, UNROUTABLE, FAILED = "confirmed", "unroutable", "failed"
HEARTBEAT_SECONDS = 10
CONNECT_TIMEOUT_SECONDS = 3
ERRORS = (AMQPError, OSError)
"""What a broker that is away or unwell may raise (`socket.timeout` is an OSError)."""


def connect(settings: QueueSettings, host: str, passwords: Sequence[str]) -> Broker:
    """A connection by the first password that the broker takes: while one is changed, it may be either."""
    *others, last = passwords
    for password in others:
        with suppress(AccessRefused):
            return Broker(settings, host, password)
    return Broker(settings, host, last)


class Broker:
    """An open connection with a channel in confirm mode; `ERRORS` when that can't be had."""

    def __init__(self, settings: QueueSettings, host: str, password: str) -> None:
        self._confirm_timeout = settings.publisher.confirm_timeout_seconds
        broker = settings.broker
        self._connection = Connection(
            host=f"{host}:{broker.port}",
            virtual_host=broker.vhost,
            userid=broker.user,
            password=password,
            ssl=broker.tls(),
            login_method="PLAIN",
            heartbeat=HEARTBEAT_SECONDS,
            connect_timeout=CONNECT_TIMEOUT_SECONDS,
            # Also while it declares: a broker that vanished without a word would hold us until TCP notices.
            read_timeout=self._confirm_timeout,
            write_timeout=self._confirm_timeout,
            client_properties={"connection_name": "labfleet publisher"},
        )
        self._connection.connect()
        topology.declare(self._connection, settings.publisher)
        self._channel = self._confirming_channel()
        self._last_tag = 0
        self._waiting: dict[int, Outgoing] = {}
        self._unroutable: set[str] = set()
        self._statuses: dict[int, str] = {}
        self.unsure = False
        """Whether a confirm is overdue: the connection should be replaced."""

    def _confirming_channel(self) -> Channel:
        channel = self._connection.channel()
        channel.confirm_select()
        channel.events["basic_ack"].add(self._on_ack)
        channel.events["basic_nack"].add(self._on_nack)
        channel.events["basic_return"].add(self._on_return)
        return channel

    def publish(self, batch: Sequence[Outgoing]) -> list[str]:
        """A status for each message, in order. Raises `ERRORS` when the connection is lost;
        what was not confirmed within the time limit is `failed` and makes the connection `unsure`."""
        self._statuses = {}
        crash.point("publish_before_send")
        tags = [self._send(message) for message in batch]
        crash.point("publish_before_confirm")
        self._drain()
        crash.point("publish_after_confirm")
        lost, self._waiting = set(self._waiting), {}
        self.unsure = bool(lost)
        return [FAILED if tag in lost else self._statuses[tag] for tag in tags]

    def _send(self, item: Outgoing) -> int:
        self._channel.basic_publish(
            item.message, exchange=item.exchange, routing_key=item.routing_key, mandatory=True
        )
        self._last_tag += 1
        self._waiting[self._last_tag] = item
        return self._last_tag

    def _drain(self) -> None:
        deadline = time.monotonic() + self._confirm_timeout
        while self._waiting and (left := deadline - time.monotonic()) > 0:
            try:
                self._connection.drain_events(timeout=left)
            except TimeoutError:
                return

    def tick(self) -> None:
        """Read what the broker has to say and keep the heartbeat; raises `ERRORS` if it is gone."""
        try:
            while True:
                self._connection.drain_events(timeout=0.001)
        except TimeoutError:
            self._connection.heartbeat_tick()

    def close(self) -> None:
        """Close; never raises."""
        try:
            self._connection.close()
        except ERRORS:
            self._connection.collect()

    def _on_ack(self, delivery_tag: int, multiple: bool) -> None:
        for tag in self._answered(delivery_tag, multiple):
            name = self._waiting.pop(tag).message.properties["message_id"]
            # A returned message is acknowledged too, right after its return.
            self._statuses[tag] = UNROUTABLE if name in self._unroutable else CONFIRMED
            self._unroutable.discard(name)

    def _on_nack(self, delivery_tag: int, multiple: bool) -> None:
        for tag in self._answered(delivery_tag, multiple):
            del self._waiting[tag]
            self._statuses[tag] = FAILED

    def _answered(self, delivery_tag: int, multiple: bool) -> Iterable[int]:
        if multiple:
            return [tag for tag in self._waiting if tag <= delivery_tag]
        return [delivery_tag] if delivery_tag in self._waiting else []

    def _on_return(self, error: Exception, exchange: str, routing_key: str, message: Any) -> None:
        self._unroutable.add(message.properties["message_id"])
