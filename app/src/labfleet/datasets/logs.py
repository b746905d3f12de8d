"""Logs of attempts: one file each, written piece by piece while the attempt runs."""

from __future__ import annotations

import os
from pathlib import Path
from uuid import UUID

from labfleet.datasets.store import DIRECTORY_MODE, StoreUnavailable, too_large

LOG_MODE = 0o640


class LogStore:
    """The logs below `<store>/logs`, named `<task>.<attempt>.log`."""

    def __init__(self, store: Path, limit: int) -> None:
        self.directory = store / "logs"
        self.limit = limit

    def prepare(self) -> None:
        """Make the directory if it is missing."""
        self.directory.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)

    def path(self, task: UUID, attempt: int) -> Path:
        """Where the log of this attempt lies."""
        return self.directory / f"{task}.{attempt}.log"

    def write(self, task: UUID, attempt: int, position: int, data: bytes) -> None:
        """Write `data` at `position`; `TooLarge` if the log would grow beyond the limit.

        Where a piece belongs is decided in the database (`labfleet.jobs.attempts`), whose row lock also
        keeps two writers of one log apart.
        """
        if position + len(data) > self.limit:
            raise too_large(self.limit)
        path = self.path(task, attempt)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, LOG_MODE)
        except OSError as error:
            raise StoreUnavailable(f"{path}: {error.strerror}.") from error
        try:
            _write_all(descriptor, data, position)
        finally:
            os.close(descriptor)

    def read(self, task: UUID, attempt: int, offset: int, length: int) -> tuple[bytes, int]:
        """At most `length` bytes from `offset` on, and the size of the whole log."""
        try:
            with self.path(task, attempt).open("rb") as log:
                size = os.fstat(log.fileno()).st_size
                log.seek(min(offset, size))
                return log.read(length), size
        except FileNotFoundError:
            return b"", 0

    def tail(self, task: UUID, attempt: int, length: int) -> tuple[str, bool]:
        """The last `length` bytes as text, and whether something before them was left out."""
        _, size = self.read(task, attempt, 0, 0)
        data, size = self.read(task, attempt, max(0, size - length), length)
        return data.decode("utf-8", errors="replace"), size > len(data)


def _write_all(descriptor: int, data: bytes, position: int) -> None:
    view = memoryview(data)
    try:
        while view:
            written = os.pwrite(descriptor, view, position)
            view, position = view[written:], position + written
    except OSError as error:
        raise StoreUnavailable(f"{error.strerror}.") from error
