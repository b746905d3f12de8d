"""`./lab test [part…]`: runs the parts side by side and tells what became of each.

The last line is `N passed, N failed`, summed over all tests of all parts; the exit code is 1 when anything
failed, or when a part ran no test at all. Machines that it made are removed at the end, also when
interrupted.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from types import FrameType

from jobs import Job, Outcome, Pool
from plan import BY_NAME, PARTS, jobs_of
from results import table

# One more than there are cores: much of a job is waiting for its machines.
SLOTS = int(os.environ.get("LABFLEET_TEST_JOBS", 1 + (os.cpu_count() or 2)))


def main() -> int:
    """Run what the command line asks for; gives the exit code."""
    parser = argparse.ArgumentParser(prog="./lab test", description="Run all tests, or some parts of them.")
    told = f"Any of: {' '.join(PARTS)}; without, all but {' '.join(BY_NAME)}."
    parser.add_argument("parts", nargs="*", metavar="PART", help=told)
    wanted = parser.parse_args().parts or [part for part in PARTS if part not in BY_NAME]
    unknown = [part for part in wanted if part.partition(":")[0] not in PARTS]
    if unknown:
        parser.error(f"there is no part {', '.join(unknown)}; choose from: {' '.join(PARTS)}")
    begin = time.monotonic()
    pool = Pool(SLOTS, lambda outcome: tell(outcome, time.monotonic() - begin))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    try:
        outcomes = pool.run([job for part in wanted for job in jobs_of(part)])
    except KeyboardInterrupt:
        print("\nInterrupted: ending what runs and removing its machines …", flush=True)
        pool.stop()
        return 130
    return conclude(outcomes, time.monotonic() - begin)


def interrupt(number: int, frame: FrameType | None) -> None:
    """Any signal ends the run in the same way; a second one must not break the cleaning up."""
    del frame
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def tell(outcome: Outcome, elapsed: float) -> None:
    """One line when a job ends, and the end of its log when it failed."""
    job: Job = outcome.job
    verdict = "ok    " if outcome.good else "FAILED"
    counts = f"{outcome.passed} passed, {outcome.failed} failed"
    clock = f"[{elapsed // 60:3.0f}:{elapsed % 60:02.0f}]"
    print(f"{clock} {verdict} {job.name:<34} {outcome.seconds:5.0f} s  {counts}", flush=True)
    for name in outcome.unsteady:
        print(f"    unsteady, passed when asked once more: {name}; the first failure: {job.log}", flush=True)
    if not outcome.good:
        print(outcome.tail(), f"\n→ {outcome.why} The whole log: {job.log}", sep="", flush=True)


def conclude(outcomes: list[Outcome], seconds: float) -> int:
    """Print the table and the closing line; gives the exit code."""
    passed = sum(outcome.passed for outcome in outcomes)
    failed = sum(outcome.failed for outcome in outcomes)
    minutes, cores = seconds / 60, os.cpu_count()
    print(f"\n{table(outcomes)}\n\nall parts {minutes:.1f} min on {cores} cores, {SLOTS} at a time")
    unsteady = [name for outcome in outcomes for name in outcome.unsteady]
    if unsteady:
        print(f"{len(unsteady)} unsteady, to be mended: {', '.join(unsteady)}")
    print(f"{passed} passed, {failed} failed", flush=True)
    return 0 if outcomes and all(outcome.good for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
