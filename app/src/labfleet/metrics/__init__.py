"""Figures of our processes, for Prometheus.

A process counts in files below the directory that `PROMETHEUS_MULTIPROC_DIR` names (without it, in its own
memory, where nobody looks); `labfleet.metrics.exporter`, one process for each machine, reads them and answers
scrapes. So no process of ours has a port or a thread for it, and gunicorn's processes count together.

Each process holds a numbered place in that directory by a lock. Its files carry the number, and the next
process that gets the place goes on counting there: there are never more files than processes at once. A lock
that nobody holds says that what the place's gauges tell is of the past.

Rooms define their figures in a module of their own, from `Counter`, `Gauge` (always `multiprocess_mode=SUM`)
and `Histogram` of here.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Literal

from prometheus_client import values

from labfleet.log import get_logger

_log = get_logger(__name__)
DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
PLACES = 64
"""More processes than this count for themselves only."""
KINDS = ("counter", "gauge_livesum", "histogram")
SUM: Literal["livesum"] = "livesum"


class _Place:
    """Our place in the directory. `number` is taken when the first figure is defined."""

    def __init__(self) -> None:
        self.process = 0
        self.number = ""
        self.lock = -1

    def take(self) -> str:
        """The number, another one after a fork: parent and child are two processes."""
        if self.process != os.getpid():
            self.process = os.getpid()
            self.number, self.lock = take_place(Path(os.environ[DIRECTORY]))
        return self.number


def take_place(directory: Path) -> tuple[str, int]:
    """Lock the first free place and empty its gauges; its number, and the lock. `OSError` if none is."""
    for number in map(str, range(PLACES)):
        lock = os.open(directory / f"{number}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            continue
        for kind in KINDS:
            file = directory / f"{kind}_{number}.db"
            if kind.startswith("gauge"):
                file.unlink(missing_ok=True)
            file.touch()
            file.chmod(0o644)  # whatever the process's mask is: another user reads it
        (directory / f"{number}.lock").chmod(0o644)
        return number, lock
    raise OSError(f"all {PLACES} places of {directory} are taken")


_place = _Place()


def _begin() -> None:
    """Let the library count in files where that was asked for. Nobody fails because he can't be counted."""
    if not counted():
        _count_for_ourselves()
        return
    try:
        _place.take()
    except OSError as error:
        _log.warning("figures are not told", directory=os.environ[DIRECTORY], error=str(error))
        _count_for_ourselves()
    else:
        values.ValueClass = values.MultiProcessValue(_place.take)  # type: ignore[no-untyped-call]


def _count_for_ourselves() -> None:
    os.environ.pop(DIRECTORY, None)  # set to nothing it would mean the working directory
    values.ValueClass = values.MutexValue


def counted() -> bool:
    """Whether somebody looks: figures that cost something are worth it."""
    return bool(os.environ.get(DIRECTORY))


_begin()

from prometheus_client import Counter, Gauge, Histogram  # noqa: E402 - after the choice of how they count

__all__ = ["DIRECTORY", "KINDS", "SUM", "Counter", "Gauge", "Histogram", "counted", "take_place"]
