"""Logs of attempts: one file each, appended to at an offset, so that a repeated piece counts once."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

from labfleet.datasets.store import DIRECTORY_MODE, StoreUnavailable, too_large
from labfleet.errors import LogGap

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

    def append(self, task: UUID, attempt: int, offset: int, data: bytes) -> int:
        """Write `data` at `offset` and return the log's size.

        What is already there is not written again. `LogGap` (with `expected_offset`) if the piece
        begins beyond the end, `TooLarge` if the log would grow beyond the limit.
        """
        with self._locked(self.path(task, attempt)) as descriptor:
            size = os.fstat(descriptor).st_size
            if offset > size:
                raise LogGap(f"The log has {size} bytes, the piece begins at {offset}.", expected_offset=size)
            fresh = data[size - offset :]
            if size + len(fresh) > self.limit:
                raise too_large(self.limit)
            _write_all(descriptor, fresh, size)
            return size + len(fresh)

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

    @contextmanager
    def _locked(self, path: Path) -> Iterator[int]:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, LOG_MODE)
        except OSError as error:
            raise StoreUnavailable(f"{path}: {error.strerror}.") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)


def _write_all(descriptor: int, data: bytes, at: int) -> None:
    """Write whole or not at all: after a full disk the log ends where it ended before."""
    view, position = memoryview(data), at
    try:
        while view:
            written = os.pwrite(descriptor, view, position)
            view, position = view[written:], position + written
    except OSError as error:
        os.ftruncate(descriptor, at)
        raise StoreUnavailable(f"{error.strerror}.") from error
