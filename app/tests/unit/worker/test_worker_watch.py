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
from labfleet.worker.meter import Meter, group_of
from labfleet.worker.patience import Patience
from labfleet.worker.processes import descendants, memory_bytes, send
from labfleet.worker.spec import MEMORY_OVERHEAD_BYTES, Limits
from labfleet.worker.watch import Exceeded, Watch, require_room, usage


def test_time(limits: Limits, tmp_path: Path) -> None:
    now = [100.0]
    watch = Watch(limits, tmp_path, Meter(None), lambda: now[0])
    now[0] = 110.0
    watch.check(os.getpid())
    now[0] = 110.1

    with pytest.raises(Exceeded, match="longer than its 10 s"):
        watch.check(os.getpid())


def test_processor_time_of_ended_processes_too(
    limits: Limits, tmp_path: Path, change: Callable[..., Any]
) -> None:
    burn = "t = __import__('time'); end = t.process_time() + 0.4\nwhile t.process_time() < end: pass"
    code = f"import os, sys\nif os.fork() == 0:\n  exec({burn!r}); os._exit(0)\nos.wait()\n"
    code += "print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stdout.readline()
        Watch(limits, tmp_path, Meter(None)).check(process.pid)  # no limit
        Watch(change(limits, cpu_seconds=60), tmp_path, Meter(None)).check(process.pid)
        with pytest.raises(Exceeded, match=r"more than 0\.3 s of processor time .*cpu_seconds"):
            Watch(change(limits, cpu_seconds=0.3), tmp_path, Meter(None)).check(process.pid)
        process.kill()


def test_the_control_group_of_the_unit_is_asked(tmp_path: Path) -> None:
    unit = tmp_path / "unified/app.slice/labfleet-attempt-1-1.scope"
    unit.mkdir(parents=True)
    (unit / "cpu.stat").write_text("usage_usec 2000000\nuser_usec 5\n")
    for name, text in {
        "7": "9:name=systemd:/x\n0::/app.slice/labfleet-attempt-1-1.scope",
        "8": "0::/x",
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "cgroup").write_text(text)
    mounts = (str(tmp_path), str(tmp_path / "unified"))

    assert group_of(8, tmp_path, mounts) is None
    assert group_of(7, tmp_path, mounts[:1]) is None
    group = group_of(7, tmp_path, mounts)
    assert group == unit

    meter = Meter(group)
    (unit / "cpu.stat").write_text("usage_usec 3250000\nuser_usec 5\n")
    assert meter.cpu(os.getpid()) == 1.25
    meter.saw_memory(77)
    assert meter.total() == {"cpu_seconds": 1.25, "memory_bytes": 77}
    assert not meter.out_of_memory()
    (unit / "memory.peak").write_text("4096\n")
    (unit / "memory.events").write_text("oom 2\noom_kill 1\n")
    assert meter.total() == {"cpu_seconds": 1.25, "memory_bytes": 4096}
    assert meter.out_of_memory()


def test_disk(limits: Limits, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    for number in range(5):
        (tmp_path / f"d/{number}").write_bytes(os.urandom(300_000))

    with pytest.raises(Exceeded, match="1 MiB of outputs"):
        require_room(tmp_path, limits)
    with pytest.raises(Exceeded, match="1 MiB of outputs"):
        Watch(limits, tmp_path, Meter(None)).check(os.getpid())


def test_the_grace_has_bounds_of_its_own(limits: Limits, tmp_path: Path, change: Callable[..., Any]) -> None:
    (tmp_path / "a").write_bytes(os.urandom(1_300_000))
    assert not Watch(limits, tmp_path, Meter(None)).unbearable(os.getpid())
    (tmp_path / "b").write_bytes(os.urandom(400_000))
    assert Watch(limits, tmp_path, Meter(None)).unbearable(os.getpid())

    roomy = change(limits, output_bytes=10**9)
    with subprocess.Popen(
        [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout
        assert process.stdout.readline()
        assert not Watch(roomy, tmp_path, Meter(None)).unbearable(os.getpid())
        too_much = change(roomy, memory_bytes=-MEMORY_OVERHEAD_BYTES)
        assert Watch(too_much, tmp_path, Meter(None)).unbearable(os.getpid())
        process.kill()


def test_number_of_files(limits: Limits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OUTPUT_FILES", 3)
    for number in range(4):
        (tmp_path / str(number)).touch()

    with pytest.raises(Exceeded, match="files"):
        require_room(tmp_path, limits)


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
            Watch(change(limits, memory_bytes=10**6), tmp_path, Meter(None)).check(os.getpid())
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


@pytest.mark.usefixtures("_quick")
def test_patience_ends_for_what_alone_finds_nobody() -> None:
    patience = Patience(0.02)

    def call() -> None:
        patience.reached()  # as the heartbeat says all the time
        raise Away

    with pytest.raises(Away):
        patience.call(call)
    assert not patience.exhausted


def test_a_refusal_is_not_repeated() -> None:
    calls = []

    def call() -> None:
        calls.append(1)
        raise Refused(409, {"code": "task_final"})

    with pytest.raises(Refused, match="task_final"):
        Patience(10).call(call)
    assert calls == [1]
