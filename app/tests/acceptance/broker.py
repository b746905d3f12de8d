"""What the broker holds, as its own tools say, and the CGI runner's door."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from .lab import Lab, Machine
from .waiting import wait_for


def queued(broker: Machine) -> dict[str, int]:
    """Messages per queue of the lab's virtual host, waiting or out for delivery."""
    listing = broker.run("rabbitmqctl -q -p labfleet list_queues name messages --formatter json")
    return {row["name"]: row["messages"] for row in json.loads(listing)}


class Named(httpx.HTTPTransport):
    """A transport through a forwarded port: the certificate must be that of `name` all the same."""

    def __init__(self, name: str, context: ssl.SSLContext) -> None:
        super().__init__(verify=context)
        self.name = name

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Ask for, and insist on, the real server's name."""
        request.extensions = {**request.extensions, "sni_hostname": self.name}
        return super().handle_request(request)


@contextmanager
def runner(lab: Lab, front_end: str | None = "web", password: str | None = None) -> Iterator[httpx.Client]:
    """A front end's client, on the way that a front end has: from the webserver's machine."""
    name = lab.machine("queue").private_address
    auth = (front_end, password or lab.secret("front_end_password_web")) if front_end else None
    transport = Named(name, ssl.create_default_context(cafile=str(lab.ca_file)))
    with (
        forwarded(lab.machine("webserver"), name, 8443) as port,
        httpx.Client(
            base_url=f"https://127.0.0.1:{port}", transport=transport, auth=auth, timeout=30
        ) as client,
    ):
        yield client


@contextmanager
def forwarded(machine: Machine, host: str, port: int) -> Iterator[int]:
    """A local port that leads to `host:port` as `machine` sees it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        local = int(probe.getsockname()[1])
    command = machine.ssh()
    place = command.index("--") - 1
    command = [*command[:place], "-N", "-L", f"127.0.0.1:{local}:{host}:{port}", command[place]]
    process = subprocess.Popen(command)
    try:
        wait_for(lambda: answers(local), 10, f"the way to {host}:{port}")
        yield local
    finally:
        process.terminate()
        process.wait(10)


def answers(port: int) -> bool:
    """Whether something listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def message(key: str = "python", attempt: int = 1) -> dict[str, Any]:
    """A message about a task that nobody knows."""
    return {"task": str(uuid.uuid4()), "attempt": attempt, "key": key, "token": "la_none.1.none"}
