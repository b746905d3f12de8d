"""The worker's consumer on a real broker: it reads, and does nothing else there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import amqp
import pytest
from broker import TestBroker

from labfleet.config import PublisherSection
from labfleet.runner.broker import CONFIRMED, Broker
from labfleet.runner.messages import outgoing

SUPPORT = Path(__file__).parents[2] / "support"
Send = Callable[..., str]


@pytest.fixture
def send(broker: TestBroker) -> Iterator[Send]:
    """Publishes as the publisher does; returns the task's id."""
    settings = PublisherSection(
        broker_host=broker.host,
        broker_port=broker.port,
        vhost=broker.vhost,
        user=broker.user,
        keys=[broker.key],
        workers=[broker.worker],
    )
    publisher = Broker(settings, broker.password)

    def publish(verb: str = "schedule", task: str = "") -> str:
        task = task or str(uuid.uuid4())
        message: dict[str, Any] = {"task": task, "attempt": 1}
        if verb == "schedule":
            message |= {"key": broker.key, "token": "la_x"}
        assert publisher.publish([outgoing(verb, "web", message)]) == [CONFIRMED]
        return task

    yield publish
    publisher.close()


class Worker:
    """The process; `next` is the next thing it said."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def next(self) -> dict[str, Any]:
        assert self.process.stdout
        for line in self.process.stdout:
            if line.startswith("{"):
                said: dict[str, Any] = json.loads(line)
                return said
        raise AssertionError("the worker has ended")


@contextmanager
def worker(broker: TestBroker, directory: Path, slots: int = 2) -> Iterator[Worker]:
    (directory / "worker.toml").write_text(
        f'[worker]\nname = "{broker.worker}"\nkeys = ["{broker.key}"]\nslots = {slots}\n'
        f'[broker]\nhost = "{broker.host}"\nport = {broker.port}\nvhost = "{broker.vhost}"\n'
        f'user = "{broker.user}"\n[front_ends.web]\nurl = "http://127.0.0.1:9"\n'
    )
    (directory / "broker_password").write_text(broker.password)
    environment = {
        **os.environ,
        "LABFLEET_CONFIG": str(directory / "worker.toml"),
        "CREDENTIALS_DIRECTORY": str(directory),
        "C_FORCE_ROOT": "1",
    }
    command = [sys.executable, str(SUPPORT / "consume.py")]
    with (directory / "worker.log").open("ab") as log:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        yield Worker(process)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)


def test_tasks_and_cancels_arrive(broker: TestBroker, send: Send, tmp_path: Path) -> None:
    first = send()
    with worker(broker, tmp_path) as process:
        said = [process.next(), process.next()]
        assert {"ready": True} in said
        assert {"run": ["web", first, 1, "la_x"]} in said
        second = send()
        assert process.next() == {"run": ["web", second, 1, "la_x"]}
        send("cancel", second)
        assert process.next() == {"stop": f"labfleet-attempt-{second}-1.service"}


def test_messages_are_acknowledged_early(broker: TestBroker, send: Send, tmp_path: Path) -> None:
    with worker(broker, tmp_path) as process:
        process.next()
        send()
        process.next()
    assert broker.take(broker.queues[0]) is None


def test_what_is_no_message_of_ours_does_not_stop_it(broker: TestBroker, send: Send, tmp_path: Path) -> None:
    with worker(broker, tmp_path) as process:
        process.next()
        with closing(broker.connection.channel()) as channel:
            for body, kind in (
                (b"rubbish", "application/json"),
                (b"\x80\x04K\x01.", "application/x-python-serialize"),
            ):
                for exchange, key in (("labfleet.tasks", broker.key), ("labfleet.control", "")):
                    channel.basic_publish(amqp.Message(body, content_type=kind), exchange, key)
            channel.basic_publish(amqp.Message(b"{}", content_type="application/json"), "labfleet.control")
        task = send()
        assert process.next() == {"run": ["web", task, 1, "la_x"]}


def test_a_worker_declares_nothing(broker: TestBroker, tmp_path: Path) -> None:
    with worker(broker, tmp_path) as process:
        # Its queues are missing: it waits for the publisher to declare them, and does not do it itself.
        with pytest.raises(subprocess.TimeoutExpired):
            process.process.wait(5)
        assert not any(map(broker.exists, broker.queues))


def test_it_starts_when_its_queues_come(
    broker: TestBroker, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    with worker(broker, tmp_path) as process:
        with pytest.raises(subprocess.TimeoutExpired):
            process.process.wait(3)
        task = request.getfixturevalue("send")()
        said = [process.next(), process.next()]
        assert {"run": ["web", task, 1, "la_x"]} in said
