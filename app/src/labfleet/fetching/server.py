"""The process `labfleet fetcher`: for each connection of the loader a process that fetches one thing.

It has no secret, no database and no store. What a process leaves, and one that takes too long, is removed.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from labfleet import systemd
from labfleet.config import SourcesSection, web_settings
from labfleet.log import configure, get_logger

_log = get_logger(__name__)
PREFIX = "labfleet-fetch-"
SOCKET_MODE = 0o660
SLICE = 0.2
# How much longer than its time a process may be there: it ends itself.
SLACK_SECONDS = 10
ENVIRONMENT = ("LABFLEET_CONFIG", "PATH", "LANG", "TMPDIR", "PYTHONDONTWRITEBYTECODE")


@dataclass
class _Running:
    process: subprocess.Popen[bytes]
    work: Path
    until: float


class Server:
    """Answers connections until `stop` is called. More than `at_once` wait."""

    def __init__(self, section: SourcesSection) -> None:
        self._section = section
        self._running: list[_Running] = []
        self._stopping = False

    def stop(self) -> None:
        """End, with all that runs: the loader asks again."""
        self._stopping = True

    def run(self) -> None:
        """Listen and serve."""
        for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
            shutil.rmtree(left, ignore_errors=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
            self._section.socket.unlink(missing_ok=True)
            listening.bind(str(self._section.socket))
            self._section.socket.chmod(SOCKET_MODE)
            listening.listen(self._section.at_once)
            listening.settimeout(SLICE)
            systemd.notify("READY=1")
            try:
                while not self._stopping:
                    self._round(listening)
            finally:
                self._clear(everything=True)

    def _round(self, listening: socket.socket) -> None:
        self._clear()
        if len(self._running) >= self._section.at_once + 1:  # the one more asks which handlers there are
            time.sleep(SLICE)
            return
        try:
            connection, _ = listening.accept()
        except TimeoutError:
            return
        with connection:
            self._start(connection)

    def _start(self, connection: socket.socket) -> None:
        work = Path(tempfile.mkdtemp(prefix=PREFIX))
        connection.setblocking(True)
        process = subprocess.Popen(
            [sys.executable, "-I", "-m", "labfleet.fetching.single", str(work)],
            stdin=connection.fileno(),
            stdout=connection.fileno(),
            env={name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
            cwd=work,
            start_new_session=True,
        )
        until = time.monotonic() + self._section.seconds + SLACK_SECONDS
        self._running.append(_Running(process, work, until))

    def _clear(self, *, everything: bool = False) -> None:
        for each in list(self._running):
            if everything or time.monotonic() > each.until:
                each.process.kill()
                each.process.wait()
            if each.process.poll() is not None:
                _end_group(each.process.pid)
                shutil.rmtree(each.work, ignore_errors=True)
                self._running.remove(each)


def _end_group(leader: int) -> None:
    """What a process of ours has started ends with it."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return


def main() -> None:
    """The process `labfleet fetcher`: settings as in docs/architecture.md, and no secret."""
    settings = web_settings()
    configure(settings.log.level)
    server = Server(settings.sources)

    def terminate(number: int, frame: FrameType | None) -> None:
        del number, frame
        server.stop()

    signal.signal(signal.SIGTERM, terminate)
    signal.signal(signal.SIGINT, terminate)
    _log.info("fetcher starts")
    server.run()
    systemd.notify("STOPPING=1")
    _log.info("fetcher ends")
