"""Run the sandbox: read what it prints, keep it within its limits, end it when that is asked for."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import IO, Protocol

from labfleet.worker.processes import command_of, send
from labfleet.worker.spec import Host
from labfleet.worker.watch import Exceeded, Watch

PERIOD_SECONDS = 0.2
CHUNK = 65536
KILLED = 128 + signal.SIGKILL
# How services go first; the weights of groups (worker_attempt_weight) are not everywhere, and share slowly.
YIELDING = {
    "nice": ("/usr/bin/nice", "--adjustment=10"),
    "idle": ("/usr/bin/chrt", "--idle", "0"),
}


@dataclass(frozen=True)
class Ending:
    """How the sandbox ended. `exit_code` is None when its command was never started; `exceeded` is the
    limit that ended it; `stopped` says that it was ended because somebody asked for it; `killed` that it
    did not end by itself within its grace. `usage` is what it used."""

    exit_code: int | None
    last_words: str = ""
    exceeded: str = ""
    stopped: bool = False
    killed: bool = False
    usage: dict[str, float] = field(default_factory=dict)


class Listener(Protocol):
    """Takes what the sandbox prints, and our own notes; knows the last words of its standard error."""

    def write(self, piece: bytes, *, is_error: bool) -> None:
        """A piece of standard output or standard error."""

    def note(self, text: str) -> None:
        """A line of ours."""

    @property
    def last_words(self) -> str:
        """The last line of standard error that isn't blank."""


class Execution:
    """One run of one sandbox, which lets services go first in the way that `host` tells."""

    def __init__(
        self, host: Host, watch: Watch, capture: Listener, stop: threading.Event, grace_seconds: float
    ) -> None:
        self._yielding = YIELDING[host.scheduling]
        self._watch = watch
        self._capture = capture
        self._stop = stop
        self._grace = grace_seconds
        self._kill_at: float | None = None
        self._exceeded = ""
        self._stopped = False
        self._killed = False

    def run(self, argv: Callable[[int], Sequence[str]]) -> Ending:
        """Start `argv(status_fd)` and stay with it to its end. Nothing of it is left then."""
        reader, writer = os.pipe()
        with (
            os.fdopen(reader, "rb") as status,
            subprocess.Popen(
                [*self._yielding, *argv(writer)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=(writer,),
                start_new_session=True,
            ) as process,
        ):
            os.close(writer)
            try:
                self._accompany(process)
            finally:
                process.kill()
            exit_code = _reported_exit(status)
        return self._ending(exit_code)

    def _ending(self, exit_code: int | None) -> Ending:
        if exit_code == KILLED and not self._exceeded and self._watch.killed_for_memory():
            self._exceeded, self._killed = self._watch.memory_message, True
        return Ending(
            exit_code,
            self._capture.last_words,
            self._exceeded,
            self._stopped,
            self._killed,
            self._watch.total(),
        )

    def _accompany(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout and process.stderr  # noqa: S101  (for the type checker)
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ, False)
            selector.register(process.stderr, selectors.EVENT_READ, True)
            next_check = 0.0
            while selector.get_map():
                self._read(selector)
                if time.monotonic() >= next_check:
                    self._supervise(process)
                    next_check = time.monotonic() + PERIOD_SECONDS
        process.wait()

    def _read(self, selector: selectors.BaseSelector) -> None:
        for key, _ in selector.select(PERIOD_SECONDS):
            stream = key.fileobj
            piece = os.read(key.fd, CHUNK)
            if piece:
                self._capture.write(piece, is_error=key.data)
            else:
                selector.unregister(stream)

    def _supervise(self, process: subprocess.Popen[bytes]) -> None:
        if self._kill_at is not None:
            if time.monotonic() >= self._kill_at or self._watch.unbearable(process.pid):
                self._killed = True
                process.kill()  # and with bubblewrap everything in the sandbox
            return
        try:
            self._watch.check(process.pid)
        except Exceeded as error:
            self._exceeded = str(error)
            self._capture.note(self._exceeded)
        self._stopped = self._stop.is_set()
        if self._exceeded or self._stopped:
            # Not to bubblewrap: it would die, and take them with it before they had heard of it.
            send(command_of(process.pid), signal.SIGTERM)
            self._kill_at = time.monotonic() + self._grace


def _reported_exit(status: IO[bytes]) -> int | None:
    """bubblewrap tells the exit code only if the command was really started."""
    for line in status.read().splitlines():
        report = json.loads(line)
        if "exit-code" in report:
            return int(report["exit-code"])
    return None
