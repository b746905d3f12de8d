"""What a run has used: processor time and memory of all its processes, also of those that have ended.

The attempt's control group knows best. Where there is none that counts (old control groups, a shepherd
without a unit) the processes themselves are asked now and then; what runs only between two looks is missed.
"""

from __future__ import annotations

from pathlib import Path

from labfleet.worker.processes import cpu_seconds
from labfleet.worker.spec import UNIT_PREFIX

MOUNTS = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
"""Where version 2 of the control groups may be; the second beside version 1."""
_MICRO = 1_000_000


def group_of(
    process: int | str = "self", processes: Path = Path("/proc"), mounts: tuple[str, ...] = MOUNTS
) -> Path | None:
    """The control group of the attempt's unit that the process is in; None if it is in none that counts."""
    lines = (processes / str(process) / "cgroup").read_text().splitlines()
    name = next((line[3:] for line in lines if line.startswith("0::")), "")
    if not name.rpartition("/")[2].startswith(UNIT_PREFIX):
        return None
    return next((path for path in (Path(mount + name) for mount in mounts) if _counts(path)), None)


def out_of_memory(group: Path | None) -> bool:
    """Whether the kernel has killed a process of the group for its memory."""
    return bool(group and _number(group / "memory.events", "oom_kill"))


def _counts(group: Path) -> bool:
    return _number(group / "cpu.stat", "usage_usec") is not None


class Meter:
    """Begins with the run. `group` is the attempt's control group, if there is one that counts."""

    def __init__(self, group: Path | None) -> None:
        self._group = group
        self._cpu_before = self._group_cpu()
        self._cpu = 0.0
        self._memory = 0

    def cpu(self, bwrap: int) -> float:
        """Seconds of processor time until now. `bwrap` is the sandbox's first process."""
        used = self._group_cpu() - self._cpu_before if self._group else cpu_seconds(bwrap)
        # A process that ends while we look is counted late: that is no time given back.
        self._cpu = max(self._cpu, used)
        return self._cpu

    def saw_memory(self, size: int) -> None:
        """The processes use so many bytes now."""
        self._memory = max(self._memory, size)

    def total(self) -> dict[str, float]:
        """`cpu_seconds` and `memory_bytes` (the most at one time), when all processes have ended."""
        used = self._group_cpu() - self._cpu_before if self._group else self._cpu
        peak = _number(self._group / "memory.peak") if self._group else None
        return {"cpu_seconds": round(max(self._cpu, used), 3), "memory_bytes": peak or self._memory}

    def out_of_memory(self) -> bool:
        """Whether the kernel has killed one of the processes for its memory."""
        return out_of_memory(self._group)

    def _group_cpu(self) -> float:
        used = _number(self._group / "cpu.stat", "usage_usec") if self._group else None
        return (used or 0) / _MICRO


def _number(file: Path, key: str = "") -> int | None:
    """The number in the file, or that on the line of `key`; None if there is none."""
    try:
        lines = [line.split() for line in file.read_text().splitlines()]
    except OSError:
        return None
    return next((int(words[-1]) for words in lines if not key or words[0] == key), None)
