"""Whole attempts: a real shepherd, a real sandbox, a real HTTP server."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import escapes
import pytest
from attempt_server import FrontEnd

Start = Callable[..., Any]
TABLE = {"table": {"path": "table.csv", "kind": "table", "optional": False}}
WRITE = "import os; out = os.environ['LABFLEET_OUTPUTS']\n"


def wait_for(condition: Callable[[], Any], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_an_analysis_comes_back(shepherd: Start) -> None:
    code = """
import json, os, sys
parameters = json.load(open(os.environ["LABFLEET_PARAMETERS"]))
data = open(os.path.join(os.environ["LABFLEET_INPUTS"], "data")).read()
with open(os.environ["LABFLEET_PROGRESS"], "a") as progress:
    progress.write("0.50 half way\\n")
os.mkdir(os.path.join(os.environ["LABFLEET_OUTPUTS"], "tables"))
with open(os.path.join(os.environ["LABFLEET_OUTPUTS"], "tables/t.csv"), "w") as table:
    table.write(data * parameters["times"])
print("printed", os.getcwd())
print("warned", file=sys.stderr)
"""
    outputs = {"t": {"path": "tables/t.csv", "kind": "table"}}

    run = shepherd(code, inputs={"data": b"a,b\n"}, parameters={"times": 3}, outputs=outputs)

    said = run.wait()
    usage = said.pop("usage")
    assert said == {
        "outcome": "success",
        "failure": None,
        "exit_code": 0,
        "message": "",
        "environment": {"os": "Test 1.0"},
    }
    assert 0 < usage["wall_seconds"] < 30
    assert 0 <= usage["cpu_seconds"] < 30
    assert usage["memory_bytes"] >= 0
    attempt = run.attempt
    assert attempt.artifacts == {"tables/t.csv": b"a,b\n" * 3}
    assert attempt.artifact_queries["tables/t.csv"] == {"kind": "table", "output": "t"}
    assert sorted(attempt.log.split(b"\n")) == [b"", b"printed /labfleet/protocol", b"warned"]
    assert run.process.returncode == 0
    assert (run.directory / "finished").exists()
    assert not (run.directory / "token").exists()


def test_progress_and_log_arrive_while_it_runs(shepherd: Start) -> None:
    code = """
import os, time
for i in range(1, 100):
    with open(os.environ["LABFLEET_PROGRESS"], "a") as progress:
        progress.write(f"{i / 100} step {i}\\n")
    print("line", i, flush=True)
    time.sleep(0.1)
"""
    run = shepherd(code)

    wait_for(lambda: len(run.attempt.progress) > 2 and b"line 3\n" in run.attempt.log)
    assert run.attempt.finish is None
    assert run.attempt.progress[-1][1].startswith("step")
    run.terminate()
    run.wait()


@pytest.mark.parametrize(
    ("code", "outcome", "failure", "words"),
    [
        ("raise SystemExit('no such gene')", "failed", "user", "exit code 1: no such gene"),
        (
            "import sys; print('too few', file=sys.stderr); sys.exit(65)",
            "inapplicable",
            None,
            "too few",
        ),
        ("import os; os.kill(os.getpid(), 11)", "failed", "user", "signal 11"),
        ("x = bytearray(10**9)", "failed", "user", "MemoryError"),
        ("import time; time.sleep(60)", "failed", "user", "longer than its 2 s"),
        ("while True: pass", "failed", "user", "longer than its 2 s"),
    ],
)
def test_whose_failure_it_was(
    shepherd: Start, code: str, outcome: str, failure: str | None, words: str
) -> None:
    said = shepherd(code, limits={"wall_seconds": 2}).wait()

    assert (said["outcome"], said["failure"]) == (outcome, failure)
    assert words in said["message"]


SAVES_WHEN_TOLD = """
import signal, sys, threading, time
def save(*_):
    open(out + '/table.csv', 'w').write('half')
    sys.exit(3)
signal.signal(signal.SIGTERM, save)
print("started", flush=True)
"""
TOO_MUCH = {
    "time": (
        # The kernel counts processor time in ticks of 10 ms: some must be used to be seen.
        "while time.process_time() < 0.3: pass\nwhile True: time.sleep(1)",
        {"wall_seconds": 3},
        "longer than its 3 s",
    ),
    "processor": (
        "threading.Thread(target=exec, args=('while True: pass',), daemon=True).start()\ntime.sleep(99)",
        {"cpu_seconds": 1},
        "more than 1 s of processor time",
    ),
    "memory": (
        # RLIMIT_DATA is as large as the limit: only together two processes pass it.
        "import os; os.fork(); x = [os.urandom(10**6) for _ in range(40)]\ntime.sleep(99)",
        {"memory_bytes": 64 * 1024**2},
        "more than its 64 MiB of memory",
    ),
    "outputs": (
        "for n in range(12): open(f'{out}/{n}', 'wb').write(b'x' * 10**6)\ntime.sleep(99)",
        {"output_bytes": 10 * 1024**2},
        "more than 10 MiB of outputs",
    ),
}


@pytest.mark.parametrize("limit", ["time", "processor"])
def test_what_is_saved_when_a_limit_is_passed_is_kept(shepherd: Start, limit: str) -> None:
    code, limits, words = TOO_MUCH[limit]
    optional = {"more": {"path": "more.csv", "kind": "table", "optional": False}}
    run = shepherd(WRITE + SAVES_WHEN_TOLD + code, limits=limits, outputs=TABLE | optional, grace=20)

    said = run.wait(60)

    assert (said["outcome"], said["failure"], said["exit_code"]) == ("partial", None, 3)
    assert words in said["message"]
    assert said["message"].endswith("What it left is kept: 'table'.")
    assert run.attempt.artifacts == {"table.csv": b"half"}
    assert said["usage"]["cpu_seconds"] > (1 if limit == "processor" else 0)


def test_a_program_that_uses_too_much_memory_may_save_its_work(shepherd: Start) -> None:
    code, limits, words = TOO_MUCH["memory"]
    run = shepherd(WRITE + SAVES_WHEN_TOLD + code, limits=limits, outputs=TABLE, grace=20)

    said = run.wait(60)

    assert words in said["message"]
    assert run.attempt.artifacts == {"table.csv": b"half"}
    assert said["usage"]["memory_bytes"] > 64 * 1024**2


def test_outputs_over_their_limit_are_kept_only_if_it_makes_room(shepherd: Start) -> None:
    code, limits, words = TOO_MUCH["outputs"]
    run = shepherd(WRITE + SAVES_WHEN_TOLD + code, limits=limits, outputs=TABLE, grace=20)
    said = run.wait(60)
    assert words in said["message"]
    assert run.attempt.artifacts == {}

    room = SAVES_WHEN_TOLD.replace(
        "sys.exit(3)", "import os; [os.remove(f'{out}/{n}') for n in range(12)]; 1/0"
    )
    run = shepherd(WRITE + room + code, limits=limits, outputs=TABLE, grace=20)
    assert words in run.wait(60)["message"]
    assert run.attempt.artifacts == {"table.csv": b"half"}


def test_who_does_not_end_in_time_keeps_nothing(shepherd: Start) -> None:
    code = (
        "open(out + '/table.csv', 'w').write('x'); import signal, time; signal.signal(15, signal.SIG_IGN)\n"
    )
    run = shepherd(WRITE + code + "time.sleep(99)", limits={"wall_seconds": 1}, outputs=TABLE)

    said = run.wait()

    assert "longer than its 1 s" in said["message"]
    assert "kept" not in said["message"]
    assert run.attempt.artifacts == {}


def test_a_command_that_is_not_there(shepherd: Start) -> None:
    said = shepherd(command=["no-such-program"]).wait()

    assert (said["outcome"], said["failure"], said["exit_code"]) == ("failed", "user", 127)
    assert "no-such-program" in said["message"]


@pytest.mark.parametrize("ending", ["sys.exit(3)", "os.kill(os.getpid(), 11)", "pass"])
def test_some_of_the_outputs_are_a_partial_result(shepherd: Start, ending: str) -> None:
    more = {"more": {"path": "more.csv", "kind": "table", "optional": False}}
    code = "import sys; open(out + '/table.csv', 'w').write('half'); "
    run = shepherd(WRITE + code + ending, outputs=TABLE | more)

    said = run.wait()

    assert (said["outcome"], said["failure"]) == ("partial", None)
    assert said["message"].endswith("What it left is kept: 'table'.")
    assert ("'more' (more.csv)" in said["message"]) == (ending == "pass")
    assert run.attempt.artifacts == {"table.csv": b"half"}


def test_an_output_that_was_left_out_is_named(shepherd: Start) -> None:
    run = shepherd("print('done')", outputs=TABLE)

    said = run.wait()
    assert (said["outcome"], said["failure"]) == ("failed", "user")
    assert "'table' (table.csv)" in said["message"]
    assert run.attempt.log == b"done\n"


@pytest.mark.parametrize(
    "code",
    [
        "os.symlink('/etc/passwd', out + '/table.csv')",
        "os.mkdir(out + '/table.csv')",
        "os.mkfifo(out + '/table.csv')",
    ],
)
def test_an_output_that_is_no_file_is_refused(shepherd: Start, code: str) -> None:
    run = shepherd(WRITE + code, outputs=TABLE)

    assert run.wait()["failure"] == "user"
    assert run.attempt.artifacts == {}


def test_undeclared_files_stay_behind(shepherd: Start) -> None:
    run = shepherd(WRITE + "open(out + '/table.csv', 'w'); open(out + '/more.csv', 'w')", outputs=TABLE)

    assert run.wait()["outcome"] == "success"
    assert list(run.attempt.artifacts) == ["table.csv"]


def test_a_flood_of_output_is_cut_and_said(shepherd: Start) -> None:
    run = shepherd("for _ in range(200_000): print('x' * 99)", limits={"log_bytes": 50_000})

    assert run.wait()["outcome"] == "success"
    assert len(run.attempt.log) < 50_200
    assert run.attempt.log.endswith(b"[labfleet] the log ends here: it is limited to 50000 bytes\n")


SLEEPER = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, lambda *_: (print("asked to stop", flush=True), sys.exit(7)))
subprocess.Popen(["setsid", "sleep", "1000"])
print("started", flush=True)
time.sleep(1000)
"""


def test_sigterm_stops_it_gently_and_hands_it_back(shepherd: Start) -> None:
    run = shepherd(SLEEPER)
    wait_for(lambda: b"started" in run.attempt.log)

    run.terminate()

    assert run.wait(60)["outcome"] == "stopped"
    assert b"asked to stop" in run.attempt.log


def test_a_cancel_comes_with_the_heartbeat(shepherd: Start) -> None:
    run = shepherd(SLEEPER)
    wait_for(lambda: b"started" in run.attempt.log)

    run.attempt.cancel = True

    assert run.wait(60)["outcome"] == "stopped"


def test_who_does_not_hear_is_killed_after_the_grace(shepherd: Start) -> None:
    run = shepherd(
        "import signal, time; signal.signal(15, signal.SIG_IGN); print('x', flush=True); time.sleep(99)"
    )
    wait_for(lambda: run.attempt.log)

    started = time.monotonic()
    run.terminate()

    assert run.wait(60)["outcome"] == "stopped"
    assert 0.9 < time.monotonic() - started < 60  # the program itself would sleep for 99


def test_nothing_survives_a_shepherd_that_is_killed(shepherd: Start) -> None:
    mark = f"marker-{os.getpid()}-{time.monotonic_ns()}"
    run = shepherd(
        f"import subprocess, time; subprocess.Popen(['setsid', 'bash', '-c', 'exec -a {mark} sleep 1000']);"
        "print('started', flush=True); time.sleep(1000)"
    )
    wait_for(lambda: b"started" in run.attempt.log and mark in command_lines())

    run.process.kill()

    wait_for(lambda: mark not in command_lines())


def command_lines() -> str:
    texts = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            texts.append(path.read_bytes().decode(errors="replace"))
        except OSError:
            continue
    return "\n".join(texts)


def test_a_superseded_attempt_stops_and_says_nothing(shepherd: Start) -> None:
    run = shepherd(SLEEPER)
    wait_for(lambda: b"started" in run.attempt.log)

    run.attempt.superseded = True

    run.process.communicate(timeout=10)
    assert run.process.returncode == 0
    assert run.attempt.finish is None


def test_an_absent_front_end_is_waited_for(shepherd: Start, front_end: FrontEnd) -> None:
    front_end.failures = 6
    run = shepherd(WRITE + "open(out + '/table.csv', 'w').write('a')", outputs=TABLE)

    assert run.wait()["outcome"] == "success"
    assert run.attempt.artifacts == {"table.csv": b"a"}


def test_patience_has_an_end(shepherd: Start, front_end: FrontEnd) -> None:
    run = shepherd("import time; time.sleep(1000)", patience=1.0)
    wait_for(lambda: run.attempt.heartbeats > 1)

    front_end.failures = 10**9

    run.process.communicate(timeout=15)
    assert run.attempt.finish is None


def test_a_full_store_ends_it_as_a_failure_of_the_system(shepherd: Start, front_end: FrontEnd) -> None:
    """The front end hears and answers; only what the program has made can't be kept there."""
    front_end.full = True
    run = shepherd(WRITE + "open(out + '/table.csv', 'w').write('a')", outputs=TABLE, patience=1.0)
    ended = run.wait()
    assert (ended["outcome"], ended["failure"]) == ("failed", "system")
    assert "No space left on device" in ended["message"]
    assert run.attempt.heartbeats > 0


def test_a_damaged_input_is_fetched_again_and_in_the_end_reported(shepherd: Start) -> None:
    run = shepherd("pass", patience=0.5, inputs={"data": b"good"})
    run.attempt.inputs["data"] = b"evil"

    run.process.communicate(timeout=15)
    assert run.attempt.finish is None
    assert run.process.returncode == 1


@pytest.mark.parametrize("name", ["../out", "/tmp/out", "a/../../out"])
def test_a_hostile_archive_is_refused(shepherd: Start, name: str) -> None:
    said = shepherd(files={name: "x"}).wait()

    assert (said["outcome"], said["failure"]) == ("failed", "user")
    assert "leads out" in said["message"]


def test_what_the_sandbox_shows(shepherd: Start) -> None:
    escapes.require_hidden(escapes.findings(shepherd, escapes.LOOKS, outputs={}))


def test_what_the_sandbox_bounds(shepherd: Start) -> None:
    escapes.require_bounded(escapes.findings(shepherd, escapes.GRABS, limits=escapes.LIMITS, outputs={}))


def test_services_of_the_machine_go_first(shepherd: Start) -> None:
    found = escapes.findings(shepherd, 'probe("niceness", lambda: os.nice(0))', outputs={})
    assert found["niceness"] == str(os.nice(0) + 10)


def test_only_idle_processors_where_that_is_set(shepherd: Start) -> None:
    code = """
probe("policy", lambda: os.sched_getscheduler(0))
probe("way back", lambda: os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0)))
"""
    found = escapes.findings(shepherd, code, outputs={}, scheduling="idle")
    assert found["policy"] == str(os.SCHED_IDLE)
    assert "PermissionError" in found["way back"]


def test_memory_of_all_processes_together(shepherd: Start) -> None:
    code = """
import os, time
for _ in range(6):
    if os.fork() == 0:
        x = bytearray(os.urandom(1) * 100_000_000)
        time.sleep(30)
time.sleep(30)
"""
    said = shepherd(code, limits={"memory_bytes": 256 * 1024**2}).wait(20)

    assert (said["failure"], said["outcome"]) == ("user", "failed")
    assert "256 MiB of memory" in said["message"]


def test_many_outputs_together(shepherd: Start) -> None:
    code = (
        WRITE
        + "import time\nfor n in range(100): open(f'{out}/{n}', 'wb').write(b'x' * 10**6)\ntime.sleep(30)"
    )
    said = shepherd(code, limits={"output_bytes": 20 * 1024**2}).wait(20)

    assert said["failure"] == "user"
    assert "20 MiB of outputs" in said["message"]


def test_attempts_do_not_see_each_other(shepherd: Start, work: Path) -> None:
    first = shepherd(SLEEPER)
    wait_for(lambda: b"started" in first.attempt.log)

    found = escapes.findings(
        shepherd,
        f"""
probe("files", lambda: os.listdir({str(first.directory)!r}))
probe("parent", lambda: os.listdir({str(work)!r}))
""",
    )
    assert "FileNotFoundError" in found["files"]
    assert "FileNotFoundError" in found["parent"]
    first.terminate()
    first.wait()


READ = """
import os, hashlib
for slot in sorted(os.listdir(os.environ["LABFLEET_INPUTS"])):
    path = os.path.join(os.environ["LABFLEET_INPUTS"], slot)
    print(slot, open(path, "rb").read().decode(), os.access(path, os.W_OK))
"""


def test_inputs_come_from_a_mounted_store_if_they_are_whole_there(shepherd: Start, work: Path) -> None:
    store = work / "store"
    inputs = {"good": b"good", "damaged": b"damaged", "missing": b"missing", "linked": b"linked"}
    places = {}
    for name, content in inputs.items():
        digest = hashlib.sha256(content).hexdigest()
        places[name] = store / "blobs" / digest[:2] / digest[2:]
        places[name].parent.mkdir(parents=True, exist_ok=True)
    places["good"].write_bytes(b"good")
    places["damaged"].write_bytes(b"dAmaged")
    (work / "elsewhere").write_bytes(b"linked")
    places["linked"].symlink_to(work / "elsewhere")

    run = shepherd(READ, inputs=inputs, store=store)

    assert run.wait()["outcome"] == "success", run.attempt.log
    assert run.attempt.log.decode().splitlines() == [
        f"{name} {name} False" for name in ("damaged", "good", "linked", "missing")
    ]
    assert sorted(run.attempt.inputs_fetched) == ["damaged", "linked", "missing"]
    assert places["good"].read_bytes() == b"good"
