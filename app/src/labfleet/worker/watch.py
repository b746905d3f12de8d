"""Bounds that no rlimit keeps: time, what all processes use together, and what lies in the outputs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from labfleet.worker.meter import Meter
from labfleet.worker.processes import descendants, memory_bytes
from labfleet.worker.spec import MEMORY_OVERHEAD_BYTES, Limits

OUTPUT_FILES = 100_000
"""Files and directories that the outputs may have (empty files take room too)."""
OUTPUT_GRACE = 1.5
"""How many times its limit of outputs a program may reach while it saves its work."""
DISK_PERIOD_SECONDS = 1.0
BLOCK = 512
MIB = 1024**2


class Exceeded(Exception):
    """A limit was passed; the message, for the user, says which, its size and what to do."""


class Watch:
    """Call `check` several times a second; it raises `Exceeded`. Afterwards, while the program may save its
    work, ask `unbearable`."""

    def __init__(
        self, limits: Limits, outputs: Path, meter: Meter, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limits = limits
        self._outputs = outputs
        self._meter = meter
        self._clock = clock
        self._started = clock()
        self._next_disk = self._started

    def check(self, bwrap: int) -> None:
        """Look at the clock, at the time and memory of all processes below `bwrap`, now and then at the
        outputs."""
        self._time()
        self._cpu(bwrap)
        if self._memory(bwrap) > self._limits.memory_bytes:
            raise Exceeded(self.memory_message)
        if self._disk_is_due():
            require_room(self._outputs, self._limits)

    def unbearable(self, bwrap: int) -> bool:
        """Whether a program that was told to end uses so much more that it can't be given its grace."""
        if self._memory(bwrap) > self._limits.memory_bytes + MEMORY_OVERHEAD_BYTES:
            return True
        most = self._limits.output_bytes * OUTPUT_GRACE
        return self._disk_is_due() and usage(self._outputs, OUTPUT_FILES)[0] > most

    def total(self) -> dict[str, float]:
        """`wall_seconds`, `cpu_seconds` and `memory_bytes` of the run, when it has ended."""
        return {"wall_seconds": round(self._clock() - self._started, 3), **self._meter.total()}

    def killed_for_memory(self) -> bool:
        """Whether the kernel has killed one of the processes for its memory."""
        return self._meter.out_of_memory()

    @property
    def memory_message(self) -> str:
        """What to say to one who needs more memory than there is."""
        size = self._limits.memory_bytes // MIB
        return f"It used more than its {size} MiB of memory. Ask for more (needs: memory), or use less."

    def _time(self) -> None:
        seconds = self._limits.wall_seconds
        if self._clock() - self._started > seconds:
            raise Exceeded(
                f"It ran longer than its {seconds:g} s. Ask for more time (needs: time), or do less."
            )

    def _cpu(self, bwrap: int) -> None:
        used, seconds = self._meter.cpu(bwrap), self._limits.cpu_seconds
        if seconds is not None and used > seconds:
            raise Exceeded(
                f"Its processes used more than {seconds:g} s of processor time together. "
                "Do less, or ask your admin for more (limits: cpu_seconds)."
            )

    def _memory(self, bwrap: int) -> int:
        used = memory_bytes(descendants(bwrap), self._limits.memory_bytes)
        self._meter.saw_memory(used)
        return used

    def _disk_is_due(self) -> bool:
        if self._clock() < self._next_disk:
            return False
        self._next_disk = self._clock() + DISK_PERIOD_SECONDS
        return True


def require_room(outputs: Path, limits: Limits) -> None:
    """Raise `Exceeded` when there is too much in the outputs."""
    size, files = usage(outputs, OUTPUT_FILES)
    if size > limits.output_bytes:
        raise Exceeded(f"It wrote more than {limits.output_bytes // MIB} MiB of outputs. Write less.")
    if files > OUTPUT_FILES:
        raise Exceeded(f"It wrote more than {OUTPUT_FILES} output files. Pack them into one.")


def usage(directory: Path, most: int, *, linked: bool = True) -> tuple[int, int]:
    """Bytes on the disk and number of entries below `directory`; counting ends above `most` entries. A file
    with several names counts as often, or, unless `linked`, once."""
    size = files = 0
    seen: set[int] = set()
    waiting = [os.fspath(directory)]
    while waiting and files <= most:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    files += 1
                    found = entry.stat(follow_symlinks=False)
                    if linked or found.st_nlink == 1 or found.st_ino not in seen:
                        size += found.st_blocks * BLOCK
                    if not linked and found.st_nlink > 1:
                        seen.add(found.st_ino)
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
        except OSError:
            continue  # it changes while we look, or was made unreadable
    return size, files
