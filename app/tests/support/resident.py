"""Resident processes as systemd starts them: settings, credentials, and what they tell systemd."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import URL

LABFLEET = str(Path(sys.executable).with_name("labfleet"))
RUN = "from labfleet.cli import main; main()"
STOP_SECONDS = 30
"""What systemd waits for before it kills (TimeoutStopSec), on a machine that has other work too."""


class Residents:
    """Starts processes that share a directory, and hears what they tell systemd."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started: list[subprocess.Popen[str]] = []
        self._systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._systemd.bind(str(folder / "notify"))
        self._systemd.settimeout(60)

    def start(
        self,
        command: str,
        settings: str,
        credentials: Mapping[str, str],
        *,
        python: Path | None = None,
        **environment: str,
    ) -> subprocess.Popen[str]:
        """Start `labfleet <command>` with the tier's file of settings and its credentials; `python` is the
        interpreter of another environment."""
        for name, value in credentials.items():
            (self._folder / name).write_text(f"{value}\n", encoding="utf-8")
        (self._folder / "webserver.toml").write_text(settings, encoding="utf-8")
        given = {
            **os.environ,
            "LABFLEET_CONFIG": str(self._folder / "webserver.toml"),
            "CREDENTIALS_DIRECTORY": str(self._folder),
            "NOTIFY_SOCKET": str(self._folder / "notify"),
            **environment,
        }
        program = [LABFLEET] if python is None else [str(python), "-c", RUN]
        process = subprocess.Popen([*program, command], env=given, stderr=subprocess.PIPE, text=True)
        self._started.append(process)
        return process

    def hear(self, what: bytes) -> None:
        """Wait until a process has told this."""
        while what not in self._systemd.recv(1000):
            pass

    def close(self) -> None:
        """End all that still runs."""
        for process in self._started:
            process.kill()
            process.communicate()
        self._systemd.close()


def database_section(url: URL) -> str:
    """The settings that lead to this database."""
    return f"""
        [database]
        hosts = ["{url.host}"]
        port = {url.port}
        name = "{url.database}"
        """


def end(process: subprocess.Popen[str]) -> list[dict[str, Any]]:
    """Stop it as systemd does; the lines that it has logged."""
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=STOP_SECONDS)
    assert process.returncode == 0, log
    return [json.loads(line) for line in log.splitlines()]


def wait_for(condition: Callable[[], object], seconds: float = 120) -> float:
    """Wait until it holds; the seconds that it took."""
    begin = time.monotonic()
    while not condition():
        assert time.monotonic() - begin < seconds, "waited in vain"
        time.sleep(0.01)
    return time.monotonic() - begin
