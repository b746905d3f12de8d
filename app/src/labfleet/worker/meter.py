"""What a run has used: processor time and memory of all its processes, also of those that have ended.

The attempt's control group knows best. Where there is none that counts (old control groups, a shepherd
without a unit) the processes themselves are asked, which give their times to their parents when they end.
"""

from __future__ import annotations

import resource
from pathlib import Path

from labfleet.worker.processes import cpu_seconds
from labfleet.worker.spec import UNIT_PREFIX

MOUNTS = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
"""Where version 2 of the control groups may be; the second beside version 1."""
_MICRO = 1_000_000


def own_group(self_cgroup: Path = Path("/proc/self/cgroup"), mounts: tuple[str, ...] = MOUNTS) -> Path | None:
    """The control group of this attempt's unit; None where this process is in none that counts."""
    names = [line[3:] for line in self_cgroup.read_text().splitlines() if line.startswith("0::")]
    for name in names:
        if name.rpartition("/")[2].startswith(UNIT_PREFIX):
            return next((path for path in (Path(mount + name) for mount in mounts) if _counts(path)), None)
    return None


def _counts(group: Path) -> bool:
    return _number(group / "cpu.stat", "usage_usec") is not None


class Meter:
    """Begins with the run. `group` is the attempt's control group, if there is one that counts."""

    def __init__(self, group: Path | None) -> None:
        self._group = group
        self._cpu_before = self._group_cpu()
        self._children_before = _children_cpu()
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
        used = (
            self._group_cpu() - self._cpu_before if self._group else _children_cpu() - self._children_before
        )
        peak = _number(self._group / "memory.peak") if self._group else None
        return {"cpu_seconds": round(max(self._cpu, used), 3), "memory_bytes": peak or self._memory}

    def out_of_memory(self) -> bool:
        """Whether the kernel has killed a process of the group for its memory."""
        return bool(self._group and _number(self._group / "memory.events", "oom_kill"))

    def _group_cpu(self) -> float:
        used = _number(self._group / "cpu.stat", "usage_usec") if self._group else None
        return (used or 0) / _MICRO


def _children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _number(file: Path, key: str = "") -> int | None:
    """The number in the file, or that on the line of `key`; None if there is none."""
    try:
        lines = [line.split() for line in file.read_text().splitlines()]
    except OSError:
        return None
    return next((int(words[-1]) for words in lines if not key or words[0] == key), None)
