"""Protocols that this worker has fetched before, as the tars they came in, one for each commit.

Files are linked in and out, so that nobody ever sees half of one, and one that is being read may be removed.
"""

from __future__ import annotations

import os
from pathlib import Path


class Cache:
    """Bounded in size: what was used longest ago goes first. For several processes at once.

    `limit` 0 keeps nothing. The directory belongs to one front end: another one's commits prove nothing.
    """

    def __init__(self, directory: Path, limit: int) -> None:
        self._directory = directory
        self._limit = limit

    def take(self, commit: str, target: Path) -> bool:
        """Put the commit's tar at `target`; False if it isn't here."""
        if not self._limit:
            return False
        try:
            target.hardlink_to(self._file(commit))
        except FileNotFoundError:
            return False
        os.utime(target)  # used just now
        return True

    def add(self, commit: str, archive: Path) -> None:
        """Remember a tar, unless it is larger than all that may be here."""
        if archive.stat().st_size > self._limit:
            return
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            self._file(commit).hardlink_to(archive)
        except FileExistsError:
            return  # another attempt was quicker
        self._make_room()

    def drop(self, commit: str) -> None:
        """Forget a tar that turned out to be bad."""
        self._file(commit).unlink(missing_ok=True)

    def _file(self, commit: str) -> Path:
        return self._directory / f"{commit}.tar"

    def _make_room(self) -> None:
        left = self._limit
        for _, size, file in sorted(self._contents(), reverse=True):
            left -= size
            if left < 0:
                file.unlink(missing_ok=True)

    def _contents(self) -> list[tuple[int, int, Path]]:
        """Time of last use, size and path of each."""
        found = []
        for file in self._directory.iterdir():
            try:
                status = file.stat()
            except FileNotFoundError:
                continue  # another attempt has removed it
            found.append((status.st_mtime_ns, status.st_size, file))
        return found
