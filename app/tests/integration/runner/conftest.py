"""Fixtures of the publisher's tests: a real broker, and the publisher as a real process."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from broker import TestBroker
from cgi_program import PASSWORD, Cgi


@pytest.fixture
def broker() -> Iterator[TestBroker]:
    broker = TestBroker()
    yield broker
    broker.close()


@dataclass
class Publisher:
    """The resident process; `tmp_path` has its configuration, socket and credentials."""

    directory: Path
    process: subprocess.Popen[bytes] | None = None

    def configure(
        self, broker: TestBroker, hosts: tuple[str, ...] = (), port: int = 0, **changes: object
    ) -> None:
        values = {
            "socket": str(self.directory / "publisher.sock"),
            "keys": [broker.key],
            "workers": [broker.worker],
            "confirm_timeout_seconds": 5,
            **changes,
        }
        login = {
            "hosts": hosts or [broker.host],
            "port": port or broker.port,
            "vhost": broker.vhost,
            "user": broker.user,
        }
        lines, connection = (
            "\n".join(f"{name} = {json.dumps(value)}" for name, value in section.items())
            for section in (values, login)
        )
        runner = f'[runner]\nsocket = "{values["socket"]}"\ntimeout_seconds = 8\n'
        (self.directory / "queue.toml").write_text(f"{runner}[publisher]\n{lines}\n[broker]\n{connection}\n")
        (self.directory / "broker_password").write_text(broker.password)
        digest = hashlib.sha256(PASSWORD.encode()).hexdigest()
        (self.directory / "front_ends").write_text(json.dumps({"web": digest}))

    def start(self) -> None:
        environment = {
            **os.environ,
            "LABFLEET_CONFIG": str(self.directory / "queue.toml"),
            "CREDENTIALS_DIRECTORY": str(self.directory),
        }
        command = [sys.executable, "-m", "labfleet.runner.publisher"]
        with (self.directory / "publisher.log").open("ab") as log:
            self.process = subprocess.Popen(command, env=environment, stderr=log)

    def stop(self) -> int:
        assert self.process
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(15)

    @property
    def log(self) -> str:
        return (self.directory / "publisher.log").read_text()


@pytest.fixture
def publisher(tmp_path: Path) -> Iterator[Publisher]:
    publisher = Publisher(tmp_path)
    yield publisher
    if publisher.process and publisher.process.poll() is None:
        publisher.stop()


@pytest.fixture
def cgi(tmp_path: Path) -> Cgi:
    return Cgi(tmp_path, tmp_path / "publisher.sock")


@pytest.fixture
def ready(publisher: Publisher, broker: TestBroker, cgi: Cgi) -> Publisher:
    """The publisher, connected to the broker."""
    publisher.configure(broker)
    publisher.start()
    deadline = time.monotonic() + 20
    while cgi("health", method="GET", password=None).status != 200:
        assert time.monotonic() < deadline, publisher.log
        time.sleep(0.1)
    return publisher
