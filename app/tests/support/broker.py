"""The broker that `LABFLEET_TEST_BROKER` names, with a virtual host's queues made empty."""

from __future__ import annotations

import os
import uuid
from contextlib import closing
from typing import Any
from urllib.parse import unquote, urlsplit

import amqp
import pytest

VARIABLE = "LABFLEET_TEST_BROKER"


class TestBroker:
    """Host, login and virtual host of the URL, and a connection of the test's own."""

    __test__ = False

    def __init__(self) -> None:
        url = os.environ.get(VARIABLE)
        if not url:
            pytest.fail(
                f"{VARIABLE} is not set. Set it to an AMQP URL of a user with all rights on a virtual host, "
                "e.g. amqp://test:secret@127.0.0.1:5672/labfleet_test.",
                pytrace=False,
            )
        parts = urlsplit(url)
        self.host, self.port = parts.hostname or "127.0.0.1", parts.port or 5672
        self.user, self.password = unquote(parts.username or ""), unquote(parts.password or "")
        self.vhost = unquote(parts.path[1:]) or "/"
        # Names of this test alone: tests may run side by side on one broker.
        self.key = f"test.{uuid.uuid4().hex}"
        self.worker = f"test-{uuid.uuid4().hex}"
        self.connection = amqp.Connection(
            f"{self.host}:{self.port}",
            userid=self.user,
            password=self.password,
            virtual_host=self.vhost,
            login_method="PLAIN",
        )
        self.connection.connect()

    @property
    def queues(self) -> tuple[str, str, str]:
        """The queue of the key, the control queue of the worker, its own queue."""
        worker = self.worker
        return f"labfleet.key.{self.key}", f"labfleet.control.{worker}", f"labfleet.worker.{worker}"

    def take(self, queue: str) -> amqp.Message | None:
        """The next message of a queue."""
        with closing(self.connection.channel()) as channel:
            return channel.basic_get(queue, no_ack=True)

    def ready(self, queue: str) -> int:
        """How many messages of a queue nobody has been given."""
        return self._declared(queue).message_count

    def consumers(self, queue: str) -> int:
        """How many read a queue."""
        return self._declared(queue).consumer_count

    def _declared(self, queue: str) -> Any:
        with closing(self.connection.channel()) as channel:
            return channel.queue_declare(queue, passive=True)

    def exists(self, queue: str) -> bool:
        """Whether there is such a queue."""
        channel = self.connection.channel()
        try:
            channel.queue_declare(queue, passive=True)
        except amqp.NotFound:
            return False
        channel.close()
        return True

    def close(self) -> None:
        """Delete this test's queues."""
        with closing(self.connection.channel()) as channel:
            for queue in self.queues:
                channel.queue_delete(queue)
        self.connection.close()
