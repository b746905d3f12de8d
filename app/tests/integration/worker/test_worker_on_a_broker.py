"""The worker's consumer on a real broker: it reads, and does nothing else there."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import amqp
import pytest
from attempt_server import FrontEnd
from broker import TestBroker

from labfleet.config import BrokerSection, PublisherSection, QueueSettings
from labfleet.runner.broker import CONFIRMED, Broker
from labfleet.runner.messages import outgoing

SUPPORT = Path(__file__).parents[2] / "support"
Send = Callable[..., str]


def wait_for(condition: Callable[[], Any], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def send(broker: TestBroker) -> Iterator[Send]:
    """Publishes as the publisher does; returns the task's id."""
    login = BrokerSection(port=broker.port, vhost=broker.vhost, user=broker.user)
    declared = PublisherSection(keys=[broker.key], workers=[broker.worker])
    publisher = Broker(
        QueueSettings.model_construct(publisher=declared, broker=login), broker.host, broker.password
    )

    def publish(verb: str = "schedule", task: str = "", token: str = "la_x", worker: str = "") -> str:
        task = task or str(uuid.uuid4())
        message: dict[str, Any] = {"task": task, "attempt": 1}
        if verb == "schedule":
            message |= {"key": broker.key, "token": token}
            message |= {"worker": worker} if worker else {}
        assert publisher.publish([outgoing(verb, "web", message)]) == [CONFIRMED]
        return task

    yield publish
    publisher.close()


class Worker:
    """The process; `next` is the next thing it said. Cancels reach every worker, also those of tests that run
    beside this one: they are asked for by name."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.output = ""

    def next(self) -> dict[str, Any]:
        return next(said for said in self._said() if "stop" not in said)

    def next_stop(self, task: str) -> dict[str, Any]:
        return next(said for said in self._said() if task in said.get("stop", ""))

    def _said(self) -> Iterator[dict[str, Any]]:
        assert self.process.stdout
        for line in self.process.stdout:
            if line.startswith("{"):
                yield json.loads(line)
        raise AssertionError("the worker has ended")

    def rest(self) -> list[dict[str, Any]]:
        """What else it said before it ended."""
        return [json.loads(line) for line in self.output.splitlines() if line.startswith('{"run')]


NOBODY = "http://127.0.0.1:9"


@contextmanager
def worker(
    broker: TestBroker, directory: Path, slots: int = 2, url: str = NOBODY, passwords: str = ""
) -> Iterator[Worker]:
    (directory / "worker.toml").write_text(
        f'[worker]\nname = "{broker.worker}"\nkeys = ["{broker.key}"]\nslots = {slots}\n'
        f'work_directory = "{directory}"\npresence_seconds = 0.2\ntags = ["large"]\n'
        f'[broker]\nhosts = ["{broker.host}"]\nport = {broker.port}\nvhost = "{broker.vhost}"\n'
        f'user = "{broker.user}"\n[front_ends.web]\nurl = "{url}"\n'
    )
    (directory / "broker_password").write_text(passwords or broker.password)
    environment = {
        **os.environ,
        "LABFLEET_CONFIG": str(directory / "worker.toml"),
        "CREDENTIALS_DIRECTORY": str(directory),
        "C_FORCE_ROOT": "1",
    }
    command = [sys.executable, str(SUPPORT / "consume.py")]
    with (directory / "worker.log").open("ab") as log:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
    running = Worker(process)
    try:
        yield running
    finally:
        process.send_signal(signal.SIGTERM)
        running.output, _ = process.communicate(timeout=60)


def test_tasks_and_cancels_arrive(broker: TestBroker, send: Send, tmp_path: Path) -> None:
    first = send()
    with worker(broker, tmp_path) as process:
        said = [process.next(), process.next()]
        assert {"ready": True} in said
        assert {"run": ["web", first, 1, "la_x"]} in said
        second = send()
        assert process.next() == {"run": ["web", second, 1, "la_x"]}
        send("cancel", second)
        assert process.next_stop(second) == {"stop": f"labfleet-attempt-{second}-1"}


def test_either_of_two_passwords_is_good(broker: TestBroker, send: Send, tmp_path: Path) -> None:
    """While one is changed, the broker may take the old or the new one."""
    task = send()
    for number, passwords in enumerate((f"wrong\n{broker.password}", f"{broker.password}\nwrong")):
        folder = tmp_path / str(number)
        folder.mkdir()
        with worker(broker, folder, passwords=passwords) as process:
            assert {"run": ["web", task, 1, "la_x"]} in [process.next(), process.next()]
        task = send()


def test_what_is_meant_for_this_worker_arrives(broker: TestBroker, send: Send, tmp_path: Path) -> None:
    task = send(worker=broker.worker)
    with worker(broker, tmp_path) as process:
        assert {"run": ["web", task, 1, "la_x"]} in [process.next(), process.next()]


def test_what_was_not_begun_goes_back_when_it_stops(broker: TestBroker, send: Send, tmp_path: Path) -> None:
    with worker(broker, tmp_path, slots=1) as process:
        process.next()
        held = send(token="la_hold")
        assert process.next()["run"][1] == held
        tasks = {send(), send(), send(worker=broker.worker), send(worker=broker.worker)}
        # Two of them lie in the process already: one of each queue.
        wait_for(lambda: (broker.ready(broker.queues[0]), broker.ready(broker.queues[2])) == (1, 1))
    assert process.rest() == []
    returned = [broker.take(broker.queues[number]) for number in (0, 0, 2, 2)]
    assert {json.loads(message.body)[1]["task"] for message in returned if message} == tasks


def test_a_drained_worker_reads_its_own_queue_only(
    broker: TestBroker, send: Send, front_end: FrontEnd, tmp_path: Path
) -> None:
    front_end.draining = True
    waiting = send()
    with worker(broker, tmp_path, url=front_end.url) as process:
        assert process.next() == {"ready": True}
        own = send(worker=broker.worker)
        assert process.next()["run"][1] == own
        assert broker.ready(broker.queues[0]) == 1

        front_end.draining = False
        assert process.next()["run"][1] == waiting

        front_end.draining = True
        wait_for(lambda: broker.consumers(broker.queues[0]) == 0)
        assert broker.consumers(broker.queues[2]) == 1


def test_its_reports(broker: TestBroker, send: Send, front_end: FrontEnd, tmp_path: Path) -> None:
    with worker(broker, tmp_path, slots=3, url=front_end.url) as process:
        assert process.next() == {"ready": True}
        reports = front_end.workers[broker.worker]
        wait_for(lambda: len(reports) > 2)
        report = reports[-1]
        assert (report["keys"], report["tags"], report["stopping"]) == ([broker.key], ["large"], False)
        assert (report["slots"], report["free_slots"]) == (3, 3)
        assert report["memory_total"] > report["memory_free"] > 0
        assert report["environment"] == {"os": "Test 1.0"}
    last = reports[-1]
    assert (last["stopping"], last["free_slots"]) == (True, 0)
    assert [item["stopping"] for item in reports[:-1]] == [False] * (len(reports) - 1)


def test_it_stops_soon_when_its_front_end_is_silent(broker: TestBroker, send: Send, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and never answers
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with worker(broker, tmp_path, url=url) as process:
            assert process.next() == {"ready": True}
            stopped = time.monotonic()
        assert time.monotonic() - stopped < 25  # the unit would be killed after 30


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
