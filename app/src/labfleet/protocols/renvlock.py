"""Lock files of R libraries: `renv.lock`, as renv writes it, with the SHA-256 of each package's tarball.

renv's own `Hash` is of some fields of a package's description and says nothing of its code, so each record
needs one key more, `SHA256`; `labfleet protocols lock-r` writes it. Addresses in the file are not used:
packages come from the lab's own indexes, or from tarballs in the protocol.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from labfleet.protocols.problems import InvalidProtocol, Problem

MAX_BYTES = 2 * 1024**2
MAX_PACKAGES = 2000
LOCAL = "Local"
SOURCES = ("Repository", "Bioconductor", LOCAL)
"""Where a package may be from. What is `Local` comes along with the protocol."""
BASE = frozenset(
    {"R", "base", "compiler", "datasets", "graphics", "grDevices", "grid", "methods", "parallel", "splines"}
    | {"stats", "stats4", "tcltk", "tools", "translations", "utils"}
)
"""A part of R itself: no lock file has them."""
HINT = (
    "Write the lock file by renv::snapshot(), and the hashes into it by "
    "'labfleet protocols lock-r renv.lock'."
)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9.]*[A-Za-z0-9]")
_VERSION = re.compile(r"\d+([.-]\d+)+")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"(\s*:)?|[{}\[\]]|\n')
_DEPENDENCIES = ("Requirements", "Depends", "Imports", "LinkingTo")

Lines = dict[tuple[str, ...], int]


@dataclass(frozen=True)
class Pin:
    """One package: its version, its tarball's SHA-256 (empty only where that was not asked for), whether the
    protocol must bring it along, and the line that it begins on."""

    name: str
    version: str
    sha256: str
    local: bool
    line: int

    @property
    def file(self) -> str:
        """How its tarball is called, everywhere."""
        return f"{self.name}_{self.version}.tar.gz"


@dataclass(frozen=True)
class Lock:
    """What a lock file says: packages, and the version of R that it was made with."""

    r: str
    pins: tuple[Pin, ...]


def read_lock(file: str, content: bytes, *, hashed: bool = True) -> Lock:
    """The packages of a lock file; `InvalidProtocol` lists every fault with its line. Hashes may be missing
    unless `hashed`."""
    text = _text(file, content)
    document = _document(file, text)
    reader = _Reader(file, _lines(text), hashed)
    found = list(reader.read(document))
    faults = [item for item in found if isinstance(item, Problem)]
    if faults:
        raise InvalidProtocol(faults)
    return Lock(document["R"]["Version"], tuple(item for item in found if isinstance(item, Pin)))


def _text(file: str, content: bytes) -> str:
    if len(content) > MAX_BYTES:
        raise InvalidProtocol([_fault(file, None, f"A lock file may have {MAX_BYTES} bytes at most.")])
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InvalidProtocol([_fault(file, line, "The lock file is not UTF-8.")]) from None


def _document(file: str, text: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        message = f"The lock file is no JSON: {error.msg} (column {error.colno})."
        raise InvalidProtocol([_fault(file, error.lineno, message)]) from None
    except RecursionError:
        raise InvalidProtocol([_fault(file, None, "The lock file is nested too deeply.")]) from None
    if not isinstance(document, dict):
        raise InvalidProtocol([_fault(file, 1, "The lock file is no JSON object.")])
    return document


def _lines(text: str) -> Lines:
    """The line of each key, by its path, in a text that is JSON."""
    lines: Lines = {}
    path: list[str] = []
    number = 1
    for token in _TOKEN.finditer(text):
        first = token[0][0]
        if first in "{[":
            path.append("")
        elif first in "}]":
            path.pop()
        elif token[1]:
            path[-1] = json.loads(token[0].removesuffix(token[1]))
            lines.setdefault(tuple(path), number)
        number += token[0].count("\n")
    return lines


@dataclass(frozen=True)
class _Reader:
    """Finds the packages and the faults of a lock file that is JSON."""

    file: str
    lines: Lines
    hashed: bool

    def read(self, document: dict[str, Any]) -> Iterator[Pin | Problem]:
        r, packages = document.get("R"), document.get("Packages")
        if not isinstance(r, dict) or not _matches(_VERSION, r.get("Version")):
            yield self._fault(("R",), "The lock file does not say which version of R it is for (R: Version).")
        if not isinstance(packages, dict) or not packages:
            yield self._fault(("Packages",), "The lock file names no package (Packages).")
            return
        if len(packages) > MAX_PACKAGES:
            yield self._fault(("Packages",), f"A lock file may name {MAX_PACKAGES} packages at most.")
            return
        for name, record in packages.items():
            yield from self._package(name, record, packages.keys() | BASE)

    def _package(self, name: str, record: Any, known: set[str]) -> Iterator[Pin | Problem]:
        """The pin of a package, and after it whatever is wrong with it."""
        place = ("Packages", name)
        if not isinstance(record, dict) or record.get("Package") != name or not _matches(_NAME, name):
            yield self._fault(place, f"The record of '{_short(name)}' does not say its name (Package).")
            return
        version, digest = record.get("Version"), record.get("SHA256") or ""
        if not isinstance(version, str) or not _VERSION.fullmatch(version):
            yield self._fault((*place, "Version"), f"{name} has no version (Version, for example 1.2.3).")
            return
        yield Pin(name, version, digest, record.get("Source") == LOCAL, self._line(place) or 1)
        yield from self._source(place, record)
        if not digest and self.hashed:
            message = f"{name} has no SHA256, so nobody could tell what is installed."
            yield self._fault(place, message)
        elif digest and not _matches(_SHA256, digest):
            message = f"{name}: '{_short(str(digest))}' is no SHA-256 (64 of 0-9a-f)."
            yield self._fault((*place, "SHA256"), message)
        for missing in sorted(_needed(record) - known):
            message = f"{name} needs {missing}, which the lock file does not have."
            yield self._fault(place, message, "Install it, and write the lock file anew by renv::snapshot().")

    def _source(self, place: tuple[str, str], record: dict[str, Any]) -> Iterator[Problem]:
        source = record.get("Source")
        if source in SOURCES:
            return
        told = f"comes from '{_short(str(source))}'" if source else "does not say where it is from (Source)"
        yield self._fault(
            (*place, "Source"),
            f"{place[1]} {told}; packages come from the lab's index (Repository, Bioconductor) or along with "
            "the protocol (Local).",
            "Lock a released version. Or build its tarball (R CMD build), keep it in a directory of the "
            'protocol (environment: tarballs), and write "Source": "Local".',
        )

    def _fault(self, place: tuple[str, ...], message: str, hint: str = HINT) -> Problem:
        return _fault(self.file, self._line(place), message, hint)

    def _line(self, place: tuple[str, ...]) -> int | None:
        """The line of the part, or of the nearest part around it that exists."""
        known = (self.lines[place[:end]] for end in range(len(place), 0, -1) if place[:end] in self.lines)
        return next(known, None)


def _needed(record: dict[str, Any]) -> set[str]:
    """The packages that a record says it needs: renv writes them in one of two forms, or not at all."""
    found: list[str] = []
    for key in _DEPENDENCIES:
        value = record.get(key)
        found += value.split(",") if isinstance(value, str) else value if isinstance(value, list) else []
    return {name for item in found if (name := str(item).partition("(")[0].strip())}


def _matches(pattern: re.Pattern[str], value: Any) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:80]}…"


def _fault(file: str, line: int | None, message: str, hint: str = HINT) -> Problem:
    return Problem(file, line, "invalid_lock", message, hint)
