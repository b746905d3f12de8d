"""Two versions of a protocol compared: what changed in its interface, and in its files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

MAX_CHANGES = 500
# What names the version itself, and so always differs.
_ITSELF = frozenset({"version"})
_STATUS = {"A": "added", "D": "removed", "M": "changed", "R": "renamed", "T": "changed"}
_HUNK = re.compile(r"^(?=diff --git )", re.MULTILINE)


@dataclass(frozen=True)
class Change:
    """A part of the interface that is not the same; None where it is not there."""

    path: str
    before: Any
    after: Any


@dataclass(frozen=True)
class FileChange:
    """A file that is not the same. Lines are None for one that is not text, `patch` for one not shown."""

    path: str
    earlier_path: str | None
    status: str
    added: int | None
    removed: int | None
    patch: str | None = None


def interface_changes(before: dict[str, Any], after: dict[str, Any]) -> list[Change]:
    """What changed between two interfaces, part by part, at most `MAX_CHANGES`."""
    found = []
    for change in _changes(before, after, ()):
        if change.path not in _ITSELF:
            found.append(change)
        if len(found) == MAX_CHANGES:
            break
    return found


def _changes(before: Any, after: Any, path: tuple[str, ...]) -> Iterator[Change]:
    if isinstance(before, dict) and isinstance(after, dict):
        for key in [*before, *(key for key in after if key not in before)]:
            yield from _changes(before.get(key), after.get(key), (*path, str(key)))
    elif before != after:
        yield Change(".".join(path), before, after)


def file_changes(raw: str, numbers: str, patch: str) -> list[FileChange]:
    """The files of a comparison, from what git says with `--raw -z`, `--numstat -z` and `--patch`.

    Patches come in the same order; where `patch` was cut off, what lies behind has none.
    """
    counted = dict(_counted(numbers))
    patches = [piece for piece in _HUNK.split(patch) if piece.startswith("diff --git ")]
    found = []
    for index, (status, earlier, path) in enumerate(_listed(raw)):
        added, removed = counted.get(path, (None, None))
        shown = patches[index] if index < len(patches) else None
        found.append(FileChange(path, earlier, _STATUS.get(status, "changed"), added, removed, shown))
    return found


def _listed(raw: str) -> Iterator[tuple[str, str | None, str]]:
    words = iter(raw.split("\0"))
    for word in words:
        if not word.startswith(":"):
            continue
        status = word.rsplit(" ", 1)[-1][:1]
        first = next(words)
        if status in {"R", "C"}:
            yield status, first, next(words)
        else:
            yield status, None, first


def _counted(numbers: str) -> Iterator[tuple[str, tuple[int | None, int | None]]]:
    words = iter(numbers.split("\0"))
    for word in words:
        if not word:
            continue
        added, removed, path = word.split("\t", 2)
        if not path:  # renamed: both names follow
            next(words)
            path = next(words)
        yield path, (None, None) if added == "-" else (int(added), int(removed))
