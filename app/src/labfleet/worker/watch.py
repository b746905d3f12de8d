"""Bounds that no rlimit keeps: time, memory over all processes, and what lies in the outputs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from labfleet.worker.processes import descendants, memory_bytes
from labfleet.worker.spec import Limits

OUTPUT_FILES = 100_000
"""Files and directories that the outputs may have (empty files take room too)."""
DISK_PERIOD_SECONDS = 1.0
BLOCK = 512


class Exceeded(Exception):
    """A limit was passed; the message is for the user. `gentle`: the program may still tidy up."""

    def __init__(self, message: str, *, gentle: bool = False) -> None:
        super().__init__(message)
        self.gentle = gentle


class Watch:
    """Call `check` several times a second; it raises `Exceeded`."""

    def __init__(self, limits: Limits, outputs: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._outputs = outputs
        self._clock = clock
        self._started = clock()
        self._next_disk = self._started

    def check(self, bwrap: int) -> None:
        """Look at the clock, at the memory of all processes below `bwrap`, now and then at the outputs."""
        self._time()
        self._memory(bwrap)
        if self._clock() >= self._next_disk:
            self.disk()
            self._next_disk = self._clock() + DISK_PERIOD_SECONDS

    def _time(self) -> None:
        seconds = self._limits.wall_seconds
        if self._clock() - self._started > seconds:
            raise Exceeded(
                f"It ran longer than its {seconds:g} s. Ask for more time (needs: time), or do less.",
                gentle=True,
            )

    def _memory(self, bwrap: int) -> None:
        limit = self._limits.memory_bytes
        if memory_bytes(descendants(bwrap), limit) > limit:
            raise Exceeded(
                f"It used more than its {limit // 1024**2} MiB of memory. "
                "Ask for more (needs: memory), or use less."
            )

    def disk(self) -> None:
        """Measure the outputs; raises `Exceeded`."""
        size, files = usage(self._outputs, OUTPUT_FILES)
        limit = self._limits.output_bytes
        if size > limit:
            raise Exceeded(f"It wrote more than {limit // 1024**2} MiB of outputs. Write less.")
        if files > OUTPUT_FILES:
            raise Exceeded(f"It wrote more than {OUTPUT_FILES} output files. Pack them into one.")


def usage(directory: Path, most: int) -> tuple[int, int]:
    """Bytes on the disk and number of entries below `directory`; counting ends above `most` entries."""
    size = files = 0
    waiting = [os.fspath(directory)]
    while waiting and files <= most:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    files += 1
                    size += entry.stat(follow_symlinks=False).st_blocks * BLOCK
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
        except OSError:
            continue  # it changes while we look, or was made unreadable
    return size, files
