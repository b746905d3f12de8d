"""Lock files of Python environments: every package with its version and the hashes of its files.

Two forms are read: requirements as `uv export`, `uv pip compile --generate-hashes` and `pip-compile
--generate-hashes` write them, and `pylock.toml` (PEP 751). Addresses in them are not used: packages come
from the lab's own index, or from wheels in the protocol, and only what has one of the hashes is taken.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from packaging.pylock import Package, Pylock, PylockValidationError
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from labfleet.protocols.problems import InvalidProtocol, Problem

MAX_BYTES = 2 * 1024**2
MAX_PACKAGES = 2000
HINT = (
    "Write the lock file by 'uv export --no-emit-project -o requirements.lock', "
    "'uv pip compile --generate-hashes' or 'uv export --format pylock.toml'."
)
_HASH = re.compile(r"\s--hash[=\s]\s*(\S*)")
_COMMENT = re.compile(r"(^|\s)#.*$")
_ALGORITHMS = {"sha256": 64, "sha384": 96, "sha512": 128}


@dataclass(frozen=True)
class Pin:
    """One package: its requirement without hashes, the hashes that its files may have, and its line."""

    name: str
    requirement: str
    hashes: tuple[str, ...]
    line: int | None

    def __str__(self) -> str:
        """As a line of a requirements file."""
        return " ".join((self.requirement, *(f"--hash={value}" for value in self.hashes)))


def is_pylock(name: str) -> bool:
    """Whether a file of this name is a `pylock.toml`."""
    return PurePosixPath(name).suffix == ".toml"


def read_lock(file: str, content: bytes) -> list[Pin]:
    """The packages of a lock file; `InvalidProtocol` lists every fault with its line."""
    if len(content) > MAX_BYTES:
        raise InvalidProtocol([_fault(file, None, f"A lock file may have {MAX_BYTES} bytes at most.")])
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InvalidProtocol([_fault(file, line, "The lock file is not UTF-8.")]) from None
    found = list(_pylock(file, text) if is_pylock(file) else _requirements(file, text))
    faults = [item for item in found if isinstance(item, Problem)]
    pins = [item for item in found if isinstance(item, Pin)]
    if len(pins) > MAX_PACKAGES:
        faults.append(_fault(file, None, f"A lock file may name {MAX_PACKAGES} packages at most."))
    if not found:
        faults.append(_fault(file, None, "The lock file names no package."))
    if faults:
        raise InvalidProtocol(faults)
    return pins


def line_named(pins: Sequence[Pin], words: str) -> Pin | None:
    """The package that an installer's message speaks of; None if it names none of them."""
    # The longest name first: `numpy-financial` is not about `numpy`.
    for pin in sorted(pins, key=lambda pin: -len(pin.name)):
        name = re.escape(pin.name).replace(r"\-", "[-_.]")
        if re.search(rf"(?<![\w.-]){name}(?![\w-]|\.\w)", words, re.IGNORECASE):
            return pin
    return None


def _requirements(file: str, text: str) -> Iterator[Pin | Problem]:
    for number, line in _logical_lines(text):
        yield _requirement(file, number, line)


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines without comments, joined where they end with a backslash, each with the number of its first."""
    parts: list[str] = []
    first = 1
    for number, raw in enumerate(text.splitlines(), start=1):
        line = _COMMENT.sub("", raw).strip()
        first = first if parts else number
        parts.append(line.removesuffix("\\"))
        if not line.endswith("\\"):
            whole, parts = " ".join(parts).strip(), []
            if whole:
                yield first, whole
    if whole := " ".join(parts).strip():
        yield first, whole


def _requirement(file: str, number: int, line: str) -> Pin | Problem:
    if line.startswith("-"):
        option = re.split(r"[\s=]", line, maxsplit=1)[0]
        message = (
            f"'{option}' can't stand in a lock file: each line is a package, and the index is the lab's."
        )
        return _fault(file, number, message, "Remove the line.")
    words = _HASH.sub("", f"{line} ").strip()
    try:
        requirement = Requirement(words)
    except InvalidRequirement as error:
        reason = str(error).splitlines()[0]
        return _fault(file, number, f"'{_short(words)}' is no requirement: {reason}")
    if requirement.url:
        message = f"{requirement.name} is taken from an address; packages come from the lab's index."
        return _fault(file, number, message)
    clauses = list(requirement.specifier)
    if len(clauses) != 1 or clauses[0].operator != "==" or clauses[0].version.endswith(".*"):
        return _fault(file, number, f"{requirement.name} has no exact version (name==1.2.3).")
    return _pin(file, number, requirement, _HASH.findall(line))


def _pin(file: str, line: int | None, requirement: Requirement, hashes: list[str]) -> Pin | Problem:
    if not hashes:
        return _fault(file, line, f"{requirement.name} has no hash, so nobody could tell what is installed.")
    for value in hashes:
        algorithm, _, digest = value.partition(":")
        if len(digest) != _ALGORITHMS.get(algorithm) or not re.fullmatch("[0-9a-f]+", digest):
            return _fault(file, line, f"{requirement.name}: '{_short(value)}' is no hash (sha256:…).")
    name = canonicalize_name(requirement.name)
    return Pin(name, str(requirement), tuple(sorted(set(hashes))), line)


def _pylock(file: str, text: str) -> Iterator[Pin | Problem]:
    lines = _lines_of_packages(text)
    try:
        lock = Pylock.from_dict(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"at line (\d+)", str(error))
        yield _fault(file, int(place[1]) if place else None, f"The lock file is no TOML: {error}")
        return
    except PylockValidationError as error:
        place = re.search(r"packages\[(\d+)\]", str(error))
        line = lines[int(place[1])] if place and int(place[1]) < len(lines) else None
        yield _fault(file, line, f"The lock file is no pylock of version 1: {error}")
        return
    for index, package in enumerate(lock.packages):
        yield _package(file, lines[index] if index < len(lines) else None, package)


def _lines_of_packages(text: str) -> list[int]:
    """Where each package begins, as tools write it: a table `[[packages]]` for each."""
    return [
        number for number, line in enumerate(text.splitlines(), start=1) if line.strip() == "[[packages]]"
    ]


def _package(file: str, line: int | None, package: Package) -> Pin | Problem:
    if package.version is None or not (package.wheels or package.sdist):
        message = f"{package.name} comes from a directory, an address or a repository, not from an index."
        return _fault(file, line, message)
    marker = f"; {package.marker}" if package.marker else ""
    if re.search(r"\b(extras|dependency_groups)\b", marker):
        message = f"{package.name} depends on an extra or a group that is chosen at installation."
        return _fault(file, line, message, "Lock what the protocol needs without extras and groups.")
    hashes = [wheel.hashes for wheel in package.wheels or []]
    hashes += [package.sdist.hashes] if package.sdist else []
    known = [
        f"{algorithm}:{digest}"
        for item in hashes
        for algorithm, digest in item.items()
        if algorithm in _ALGORITHMS
    ]
    return _pin(file, line, Requirement(f"{package.name}=={package.version}{marker}"), known)


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:80]}…"


def _fault(file: str, line: int | None, message: str, hint: str = HINT) -> Problem:
    return Problem(file, line, "invalid_lock", message, hint)
