"""Fixtures of the worker's tests: a front end to report to, and a place to work in."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from attempt_server import Attempt, FrontEnd
from broker import TestBroker

from labfleet.worker.spec import Host, Images, Packages, from_claim

NOBODY = 65534


def ordinary_user() -> dict[str, Any]:
    """For `Popen`: root is exempt from the limit on processes, and no attempt ever runs as root."""
    if os.getuid() != 0:
        return {}
    user: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": ()}
    if subprocess.run(["test", "-x", sys.executable], check=False, **user).returncode:
        message = f"{sys.executable} is out of reach for ordinary users. Clone to a place that all can read."
        pytest.fail(message, pytrace=False)
    return user


@pytest.fixture
def front_end() -> Iterator[FrontEnd]:
    with FrontEnd() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def broker() -> Iterator[TestBroker]:
    broker = TestBroker()
    yield broker
    broker.close()


@dataclass
class Shepherding:
    """A shepherd's process, and the attempt as the front end sees it."""

    attempt: Attempt
    process: subprocess.Popen[str]
    directory: Path

    def wait(self, seconds: float = 30) -> dict[str, Any]:
        """The ending that was reported."""
        self.process.communicate(timeout=seconds)
        assert self.attempt.finish is not None
        return self.attempt.finish

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)


@pytest.fixture
def work() -> Iterator[Path]:
    """A directory of the user who runs the attempts."""
    with tempfile.TemporaryDirectory(prefix="labfleet-work-") as name:
        if os.getuid() == 0:
            os.chown(name, NOBODY, NOBODY)
        yield Path(name)


@pytest.fixture
def shepherd(front_end: FrontEnd, work: Path) -> Iterator[Callable[..., Shepherding]]:
    """`shepherd(code, **attempt)` starts `python -m labfleet.worker.attempt` on a Python protocol; in that
    process `before` is run first, a line of Python."""
    if shutil.which("bwrap") is None:
        pytest.fail("There is no bwrap on the PATH. Install it: apt-get install bubblewrap", pytrace=False)
    started: list[Shepherding] = []

    def start(
        code: str = "",
        *,
        patience: float = 10,
        grace: float = 1.0,
        packages: dict[str, Any] | None = None,
        images: dict[str, Any] | None = None,
        registries: str = "",
        readonly: tuple[str, ...] = (),
        store: Path | None = None,
        scheduling: Literal["nice", "idle"] = "nice",
        before: str = "",
        **values: Any,
    ) -> Shepherding:
        values.setdefault("files", {"main.py": code})
        attempt = front_end.add(Attempt(task=str(uuid.uuid4()), **values))
        directory = work / attempt.task
        directory.mkdir()
        cache = (str(work / "protocols"), 10**6)
        made = Packages(directory=str(work / "environments"), **(packages or {}))
        host = Host(
            front_end.url,
            None,
            grace,
            patience,
            readonly,
            {"os": "Test 1.0"},
            *cache,
            made,
            "worker1",
            str(store or ""),
            scheduling,
            Images(**(images or {})),
        )
        from_claim(attempt.task, 1, attempt.answer_to_claim(), host).save(
            directory, attempt.token, registries
        )
        if os.getuid() == 0:
            for path in (directory, *directory.iterdir()):
                os.chown(path, NOBODY, NOBODY)
        program = ["-m", "labfleet.worker.attempt"]
        if before:
            start = "import runpy; runpy.run_module('labfleet.worker.attempt', run_name='__main__')"
            program = ["-c", f"{before}; {start}"]
        command = [sys.executable, "-I", *program, str(directory)]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **ordinary_user())
        started.append(Shepherding(attempt, process, directory))
        return started[-1]

    yield start
    for item in started:
        item.process.kill()
        item.process.communicate()
