"""Let an attempt begin: in the nursery, or in a service with a new interpreter where there is no nursery."""

from __future__ import annotations

import json
import select
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from labfleet.log import get_logger
from labfleet.worker import units
from labfleet.worker.bus import Bus, BusError, runtime_directory
from labfleet.worker.spec import Spec

log = get_logger(__name__)
NAME = "labfleet-nursery"
ANSWER_SECONDS = 30.0
"""Longer than systemd may take for the scope: the nursery's answer is waited for, whatever it is."""
READY_SECONDS = 10.0
RETRY_SECONDS = 60.0
"""A nursery that is away is started anew at most so often."""
POLL_SECONDS = 0.5
RESTART_MICROSECONDS = 1_000_000
LINE_BYTES = 4096
SUCCESS = "success"
"""How a unit ends that has not failed, in systemd's words and in the nursery's."""
Wait = Callable[[Callable[[], bool]], str | None]
"""Given `given_up`, waits for a unit's end: how it ended, or None when nobody waits any more."""


class Away(Exception):
    """The nursery did not do it; the message says why."""


class Nursery:
    """The worker's side. Thread-safe. `name` is that of the unit and of the socket."""

    def __init__(self, attempts: Path, name: str = NAME) -> None:
        self._attempts = attempts
        self._unit = f"{name}.service"
        self._path = Path(runtime_directory()) / f"{name}.sock"
        self._lock = threading.Lock()
        self._opened = -RETRY_SECONDS

    def open(self) -> None:
        """Start a nursery of this release in the place of an older one. Without one it only takes longer."""
        with self._lock:
            if time.monotonic() - self._opened < RETRY_SECONDS:
                return
            self._opened = time.monotonic()
            try:
                self._restart()
            except (BusError, Away) as error:
                log.warning("there is no nursery: attempts take longer to begin", error=str(error))

    def _restart(self) -> None:
        with Bus() as bus:
            units.unless_gone(bus.run_job, "StopUnit", "ss", self._unit, "replace")
            units.unless_gone(bus.manager, "ResetFailedUnit", "s", self._unit)
        program = [
            sys.executable,
            "-I",
            "-m",
            "labfleet.worker.nursery",
            str(self._path),
            str(self._attempts),
        ]
        restart: list[units.Property] = [
            ("Restart", ("s", "always")),
            ("RestartUSec", ("t", RESTART_MICROSECONDS)),
        ]
        units.start(self._unit, units.service(program) + restart)
        self._wait_until_ready()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while True:
            try:
                self._connect().close()
            except Away:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                return

    def start(self, spec: Spec, directory: Path) -> Wait:
        """Start the attempt's unit. The shepherd does the same in either way."""
        name = units.unit_name(spec.task, spec.number)
        try:
            return self._ask(name, directory)
        except Away as error:
            log.info("an attempt begins without the nursery", error=str(error))
        # It may have been killed between the deed and the answer.
        if not units.runs_or_forget(name):
            units.start_service(spec, directory)
        threading.Thread(target=self.open, name="nursery", daemon=True).start()
        return partial(units.wait, name)

    def _ask(self, name: str, directory: Path) -> Wait:
        channel = self._connect()
        try:
            channel.sendall(json.dumps({"directory": str(directory)}).encode() + b"\n")
            answer = _answer(channel)
        except OSError as error:
            answer = {"error": str(error)}
        if not answer.get("started"):
            channel.close()
            raise Away(str(answer.get("error", "it gave no answer")))
        return partial(_wait, channel, name)

    def _connect(self) -> socket.socket:
        channel = socket.socket(socket.AF_UNIX)
        try:
            channel.settimeout(ANSWER_SECONDS)
            channel.connect(str(self._path))
        except OSError as error:
            channel.close()
            raise Away(f"{self._path}: {error}") from None
        return channel


def _wait(channel: socket.socket, name: str, given_up: Callable[[], bool]) -> str | None:
    with closing(channel):
        while not given_up():
            if select.select([channel], [], [], POLL_SECONDS)[0]:
                told = _answer(channel).get("result")
                # A nursery that ends tells nothing; its children live on.
                return str(told) if told else units.wait(name, given_up)
    return None


def _answer(channel: socket.socket) -> dict[str, Any]:
    """The next line; empty when there is none."""
    line = b""
    try:
        while not line.endswith(b"\n") and (piece := channel.recv(LINE_BYTES)):
            line += piece
        answer = json.loads(line)
    except (OSError, ValueError):
        return {}
    return answer if isinstance(answer, dict) else {}
