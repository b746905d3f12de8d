"""Environments of protocols that this worker has made, each in a directory named by its content's hash.

For several processes at once, by a lock file for each environment: whoever makes or removes it holds the lock
alone, those that use it share it. The kernel gives a lock back with its holder's end, so that nothing has to
be cleared up. A directory appears under its name when it is whole; what was not finished is removed.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from labfleet.worker.removal import remove

CONTENT, DESCRIPTION = "content", "environment.json"
UNFINISHED, LOCK = ".unfinished", ".lock"
Description = dict[str, Any]


class Environment:
    """One that is there, and stays until `release`."""

    def __init__(self, directory: Path, lock: int) -> None:
        self.path = directory / CONTENT
        self.description: Description = json.loads((directory / DESCRIPTION).read_text(encoding="utf-8"))
        self._lock = lock
        os.utime(directory / DESCRIPTION)  # used just now

    def release(self) -> None:
        """It may be removed from now on."""
        os.close(self._lock)


class Environments:
    """All of them. Above `limit` bytes those are removed that were used longest ago and that nobody uses."""

    def __init__(self, directory: Path, limit: int = 0) -> None:
        self._directory = directory
        self._limit = limit

    def obtain(self, key: str, make: Callable[[Path], Description], wait: Callable[[], None]) -> Environment:
        """The environment, made by `make(directory)` unless it is there. While another process makes it,
        `wait` is called again and again. What either raises ends it, and leaves nothing."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        while True:
            if found := self._take(key):
                return found
            lock = self._locked(key, fcntl.LOCK_EX)
            if lock is None:
                wait()
                continue
            try:
                if not self._whole(key):
                    self._make(key, make)
            finally:
                os.close(lock)

    def sweep(self) -> None:
        """Remove what was not finished, by a process that has ended."""
        if self._directory.exists():
            for path in self._directory.glob(f"*{UNFINISHED}"):
                self._remove(path.name.removesuffix(UNFINISHED))

    def _take(self, key: str) -> Environment | None:
        if not self._whole(key) or (lock := self._locked(key, fcntl.LOCK_SH)) is None:
            return None
        try:
            return Environment(self._directory / key, lock)
        except FileNotFoundError:  # it was removed just before we had the lock
            os.close(lock)
            return None

    def _whole(self, key: str) -> bool:
        return (self._directory / key / DESCRIPTION).exists()

    def _make(self, key: str, make: Callable[[Path], Description]) -> None:
        unfinished = self._directory / f"{key}{UNFINISHED}"
        remove(unfinished)
        try:
            (unfinished / CONTENT).mkdir(mode=0o700, parents=True)
            description = make(unfinished / CONTENT)
            (unfinished / DESCRIPTION).write_text(json.dumps(description), encoding="utf-8")
            unfinished.rename(self._directory / key)
        finally:
            remove(unfinished)
        self.sweep()
        self._make_room(key)

    def _make_room(self, newest: str) -> None:
        left = self._limit
        for _, size, key in sorted(self._contents(newest), reverse=True):
            left -= size
            if left < 0 and key != newest:
                self._remove(key)

    def _contents(self, newest: str) -> list[tuple[float, int, str]]:
        """Time of last use, size and key of each; the newest one is used in a moment."""
        found = []
        for file in self._directory.glob(f"*/{DESCRIPTION}"):
            with suppress(FileNotFoundError, ValueError):  # another process is removing it
                used = float("inf") if file.parent.name == newest else file.stat().st_mtime
                found.append((used, int(json.loads(file.read_text())["bytes"]), file.parent.name))
        return found

    def _remove(self, key: str) -> None:
        """Unless somebody uses or makes it."""
        lock = self._locked(key, fcntl.LOCK_EX)
        if lock is None:
            return
        unfinished = self._directory / f"{key}{UNFINISHED}"
        try:
            remove(unfinished)
            # First it loses its name: nobody shall find half of it.
            with suppress(FileNotFoundError):
                (self._directory / key).rename(unfinished)
            remove(unfinished)
            self._lock_of(key).unlink(missing_ok=True)
        finally:
            os.close(lock)

    def _lock_of(self, key: str) -> Path:
        return self._directory / f"{key}{LOCK}"

    def _locked(self, key: str, kind: int) -> int | None:
        """The lock's descriptor; None while another process has it in a way that excludes this one."""
        path = self._lock_of(key)
        while True:
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, kind | fcntl.LOCK_NB)
                with suppress(FileNotFoundError):
                    if os.fstat(lock).st_ino == path.stat().st_ino:
                        return lock
            except BlockingIOError:
                os.close(lock)
                return None
            except BaseException:
                os.close(lock)
                raise
            os.close(lock)  # its file was removed with the environment; there may be another by now
