"""The files of a protocol's directory: the ones that count, in a fixed order, within the limits."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from labfleet.protocols.archive import DEFAULT_LIMITS, ArchiveError, Limits, safe_path, safe_target

# What tools leave behind and nobody means to keep.
LEFT_OUT = frozenset(
    {".git", "__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".Rhistory", ".RData"}
)


@dataclass(frozen=True)
class Entry:
    """A file or a link. `mode` is git's: 100644, 100755 or 120000."""

    path: PurePosixPath
    place: Path
    mode: str

    @property
    def executable(self) -> bool:
        """Whether it may be started."""
        return self.mode == "100755"

    def content(self) -> bytes:
        """The bytes that git keeps: a file's content, a link's target."""
        if self.mode == "120000":
            return os.fsencode(self.place.readlink())
        return self.place.read_bytes()


def entries_of(directory: Path, limits: Limits = DEFAULT_LIMITS) -> list[Entry]:
    """Every file below `directory`, sorted by path; `ArchiveError` if it can't be a protocol."""
    if not directory.is_dir():
        raise ArchiveError(f"{directory} is no directory.", hint="Name the directory that has protocol.yml.")
    entries: list[Entry] = []
    total = 0
    for entry in _walk(directory, PurePosixPath(), limits):
        entries.append(entry)
        size = entry.place.lstat().st_size
        total += size
        if len(entries) > limits.entries or total > limits.total_bytes or size > limits.file_bytes:
            raise ArchiveError(
                f"The directory is too large (seen at '{entry.path}'): {limits.entries} files, "
                f"{limits.file_bytes} bytes a file, {limits.total_bytes} in all.",
                hint="Keep data out of the protocol: upload it as a dataset.",
            )
    return sorted(entries, key=lambda entry: entry.path.parts)


def _walk(directory: Path, inside: PurePosixPath, limits: Limits) -> Iterator[Entry]:
    with os.scandir(directory) as scan:
        items = list(scan)
    for item in items:
        if item.name in LEFT_OUT or item.name.endswith((".pyc", "~")):
            continue
        path = safe_path(str(inside / item.name), limits)
        if item.is_symlink():
            safe_target(path, str(Path(item.path).readlink()))
            yield Entry(path, Path(item.path), "120000")
        elif item.is_dir(follow_symlinks=False):
            yield from _walk(Path(item.path), path, limits)
        elif item.is_file(follow_symlinks=False):
            executable = item.stat().st_mode & 0o100
            yield Entry(path, Path(item.path), "100755" if executable else "100644")
        else:
            raise ArchiveError(f"'{path}' is neither a file nor a directory.", hint="Remove it.")
