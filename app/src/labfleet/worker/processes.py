"""The processes of a sandbox, seen from outside through /proc."""

from __future__ import annotations

import os
import signal
from pathlib import Path

PAGE = os.sysconf("SC_PAGE_SIZE")
TICKS = os.sysconf("SC_CLK_TCK")


def descendants(pid: int) -> list[int]:
    """All processes below `pid`, parents before children. What ends meanwhile is left out."""
    found = []
    waiting = _children(pid)
    while waiting:
        child = waiting.pop(0)
        found.append(child)
        waiting += _children(child)
    return found


def _children(pid: int) -> list[int]:
    try:
        threads = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208  (names, many times a second)
        lists = [Path(f"/proc/{pid}/task/{thread}/children").read_text() for thread in threads]
    except OSError:
        return []
    return [int(word) for text in lists for word in text.split()]


def memory_bytes(pids: list[int], enough: int) -> int:
    """Memory that the processes use. Shared pages are counted once when the plain sum exceeds `enough`
    (that is costly, and only then does it matter)."""
    plain = sum(map(_resident, pids))
    return plain if plain <= enough else sum(map(_proportional, pids))


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    except (OSError, IndexError):
        return 0


def _proportional(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        # Not ours to read any more (it is ending), or not permitted: the plain figure must do.
        return _resident(pid)
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def cpu_seconds(root: int) -> float:
    """Processor time of the process and of all below it, also of those that it or they have waited for."""
    return sum(map(_ticks, [root, *descendants(root)])) / TICKS


def _ticks(pid: int) -> int:
    try:
        # The name, in brackets, may hold anything; after it the fields are counted from 3 (see proc(5)).
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return sum(map(int, fields[11:15]))  # own and waited-for children's, each of user and of system


def send(pids: list[int], number: signal.Signals) -> None:
    """Signal each; those that have ended are no error."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            continue


def command_of(bwrap: int) -> list[int]:
    """The processes in bubblewrap's sandbox without its own: the one that waits inside is left out."""
    inside = _children(bwrap)
    return [pid for pid in descendants(bwrap) if pid not in inside]
