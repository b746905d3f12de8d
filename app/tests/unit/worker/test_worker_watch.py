"""Limits that no rlimit keeps, and patience."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labfleet.worker import patience as patience_module
from labfleet.worker import watch as module
from labfleet.worker.client import Away, Refused
from labfleet.worker.patience import Patience
from labfleet.worker.processes import descendants, memory_bytes, send
from labfleet.worker.spec import Limits
from labfleet.worker.watch import Exceeded, Watch, usage


def test_time(limits: Limits, tmp_path: Path) -> None:
    now = [100.0]
    watch = Watch(limits, tmp_path, lambda: now[0])
    now[0] = 110.0
    watch.check(os.getpid())
    now[0] = 110.1

    with pytest.raises(Exceeded, match="longer than its 10 s") as caught:
        watch.check(os.getpid())
    assert caught.value.gentle


def test_disk(limits: Limits, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    for number in range(5):
        (tmp_path / f"d/{number}").write_bytes(os.urandom(300_000))

    with pytest.raises(Exceeded, match="1 MiB of outputs"):
        Watch(limits, tmp_path).disk()


def test_number_of_files(limits: Limits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OUTPUT_FILES", 3)
    for number in range(4):
        (tmp_path / str(number)).touch()

    with pytest.raises(Exceeded, match="files"):
        Watch(limits, tmp_path).disk()


def test_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "far").symlink_to("/usr")
    assert usage(tmp_path, 100)[1] == 2


def test_memory_of_all_descendants(limits: Limits, tmp_path: Path, change: Callable[..., Any]) -> None:
    code = (
        "import os, sys; x = bytearray(30_000_000); pid = os.fork(); print(1, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stdout.readline()
        assert process.stdout.readline()
        pids = [process.pid, *descendants(process.pid)]
        assert len(pids) == 2
        # What the fork shares is counted once when it matters.
        assert memory_bytes(pids, 10**10) > 60_000_000
        assert 30_000_000 < memory_bytes(pids, 0) < 60_000_000
        with pytest.raises(Exceeded, match="of memory"):
            Watch(change(limits, memory_bytes=10**6), tmp_path).check(os.getpid())
        send(pids, signal.SIGKILL)
    send([process.pid], signal.SIGTERM)  # gone, and no error


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience_module, "FIRST_PAUSE_SECONDS", 0.001)


@pytest.mark.usefixtures("_quick")
def test_patience_outlasts_an_absence() -> None:
    answers = iter([Away(), Away(), 7])

    def call() -> int:
        answer = next(answers)
        if isinstance(answer, Away):
            raise answer
        return answer

    assert Patience(10).call(call) == 7


@pytest.mark.usefixtures("_quick")
def test_patience_ends() -> None:
    def call() -> None:
        raise Away

    with pytest.raises(Away):
        Patience(0.02).call(call)
    given_up = threading.Event()
    given_up.set()
    with pytest.raises(Away):
        Patience(1000, given_up).call(call)


def test_a_refusal_is_not_repeated() -> None:
    calls = []

    def call() -> None:
        calls.append(1)
        raise Refused(409, {"code": "task_final"})

    with pytest.raises(Refused, match="task_final"):
        Patience(10).call(call)
    assert calls == [1]
