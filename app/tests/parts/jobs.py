"""Jobs of the test run, and the pool that runs some of them at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import results

TAIL_LINES = 60
GRACE_SECONDS = 60
# A step of which more tests fail than these is broken; fewer are asked once more (docs/decisions/0015).
MOST_ASKED_AGAIN = 3


@dataclass(frozen=True)
class Step:
    """One command of a job. A step that writes no JUnit file counts as one test itself."""

    command: Sequence[str]
    environment: dict[str, str] = field(default_factory=dict)
    folder: Path | None = None
    # The JUnit file that the command writes.
    junit: Path | None = None
    # Whether it counts as a test when it writes none; making a machine does not.
    counts: bool = True
    # The command that asks once more those of its tests that failed.
    again: Sequence[str] = ()


@dataclass(frozen=True)
class Job:
    """Steps that run one after another until one fails, with one log; `cleanup` runs whatever happened."""

    part: str
    name: str
    steps: Sequence[Step]
    log: Path
    cleanup: Sequence[Step] = ()
    # Runs when a step has failed, before the cleaning up: what the machines' journals say.
    post_mortem: Sequence[Step] = ()
    # All steps run, whether or not an earlier one failed.
    all_steps: bool = False
    # Of the jobs with the same key, one runs at a time.
    alone: str | None = None


@dataclass
class Outcome:
    """What became of a job."""

    job: Job
    passed: int = 0
    failed: int = 0
    seconds: float = 0.0
    why: str = ""
    # Tests that failed and passed when they were asked once more.
    unsteady: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """At least one test ran, and none failed."""
        return not self.why and self.failed == 0 and self.passed > 0

    def tail(self) -> str:
        """The end of the log, indented."""
        lines = self.job.log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        return "\n".join(f"    {line}" for line in lines)

    def count(self, step: Step, code: int, verdicts: dict[str, bool] | None) -> None:
        """Add what one step has shown: its exit code, and the tests of its JUnit file, if it wrote one."""
        tests = verdicts or {}
        self.passed += sum(tests.values())
        self.failed += sum(not good for good in tests.values())
        if step.counts and code == 0 and not step.junit:
            self.passed += 1
        if code != 0:
            self.why = self.why or f"`{' '.join(map(str, step.command))[:160]}` ended with {code}."
            self.failed += 0 if not all(tests.values()) else 1
        elif not all(tests.values()):
            self.why = self.why or "A test was skipped."
        elif step.junit and not tests:
            self.why = self.why or "No test ran."
            self.failed += 1


class Pool:
    """Runs jobs, `slots` at a time, in their order as far as `alone` allows."""

    def __init__(self, slots: int, tell: Callable[[Outcome], None]) -> None:
        self.slots = slots
        self.tell = tell
        self.stopping = threading.Event()
        self.running: dict[int, subprocess.Popen[bytes]] = {}
        self.lock = threading.Lock()
        self.changed = threading.Condition(self.lock)
        self.busy: set[str] = set()
        self.executor = ThreadPoolExecutor(max_workers=slots)

    def run(self, jobs: list[Job]) -> list[Outcome]:
        """Run all jobs; gives their outcomes in the jobs' order."""
        waiting, outcomes = list(jobs), [Outcome(job) for job in jobs]
        by_name = {outcome.job.name: outcome for outcome in outcomes}

        def work() -> None:
            while (job := self._next(waiting)) is not None:
                try:
                    self._run(by_name[job.name])
                finally:
                    self._free(job)

        futures = [self.executor.submit(work) for _ in range(self.slots)]
        while not all(future.done() for future in futures):
            time.sleep(0.2)
        for future in futures:
            future.result()
        return outcomes

    def stop(self) -> None:
        """End every running command and wait until the jobs have cleaned up."""
        self.stopping.set()
        with self.lock:
            self.changed.notify_all()
            for process in self.running.values():
                _signal(process, signal.SIGTERM)
        self.executor.shutdown(wait=True)

    def _next(self, waiting: list[Job]) -> Job | None:
        with self.changed:
            while waiting and not self.stopping.is_set():
                for job in waiting:
                    if job.alone is None or job.alone not in self.busy:
                        waiting.remove(job)
                        self.busy |= {job.alone} if job.alone else set()
                        return job
                self.changed.wait(1)
        return None

    def _free(self, job: Job) -> None:
        with self.changed:
            self.busy.discard(job.alone or "")
            self.changed.notify_all()

    def _run(self, outcome: Outcome) -> None:
        job, begin = outcome.job, time.monotonic()
        job.log.parent.mkdir(parents=True, exist_ok=True)
        job.log.write_text("")
        for step in job.steps:
            if self.stopping.is_set():
                outcome.why = "It was interrupted."
            if outcome.why and not job.all_steps:
                break
            self._step(step, outcome)
        for step in job.post_mortem if not outcome.good and not self.stopping.is_set() else ():
            self._command(step, job.log)
        for step in job.cleanup:
            self._command(step, job.log.with_suffix(".cleanup.log"))
        outcome.seconds = time.monotonic() - begin
        self.tell(outcome)

    def _step(self, step: Step, outcome: Outcome) -> None:
        """Run a step, and once more its tests that failed when they are few."""
        code = self._command(step, outcome.job.log)
        verdicts = results.junit(step.junit) if step.junit else None
        failed = [name for name, good in (verdicts or {}).items() if not good]
        if code != 0 and step.again and len(failed) <= MOST_ASKED_AGAIN and not self.stopping.is_set():
            code = self._command(replace(step, command=step.again), outcome.job.log)
            asked = results.junit(step.junit) if step.junit else None
            verdicts = {**(verdicts or {}), **asked} if asked else verdicts
            if code == 0:
                outcome.unsteady += failed or ["a step before its tests"]
        outcome.count(step, code, verdicts)

    def _command(self, step: Step, log: Path) -> int:
        if step.junit:
            step.junit.parent.mkdir(parents=True, exist_ok=True)
            step.junit.unlink(missing_ok=True)
        with log.open("ab") as stream:
            stream.write(f"\n$ {' '.join(map(str, step.command))}\n".encode())
            stream.flush()
            process = subprocess.Popen(
                list(step.command),
                cwd=step.folder,
                env={**os.environ, **step.environment},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            with self.lock:
                self.running[process.pid] = process
            try:
                return self._wait(process)
            finally:
                with self.lock:
                    del self.running[process.pid]

    def _wait(self, process: subprocess.Popen[bytes]) -> int:
        """Wait; a command that was told to end and does not is killed after the grace."""
        told: float | None = None
        while True:
            try:
                return process.wait(timeout=1)
            except subprocess.TimeoutExpired:
                told = told or (time.monotonic() if self.stopping.is_set() else None)
                if told and time.monotonic() - told > GRACE_SECONDS:
                    _signal(process, signal.SIGKILL)


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return
