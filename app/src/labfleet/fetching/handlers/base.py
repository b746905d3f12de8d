"""What a handler is: it fetches one file from where a source's parameters say, in a process of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

from labfleet.config import ProtocolsSection

Schema = Mapping[str, Any]
PIECE = 256 * 1024


class FetchFailed(Exception):
    """It can't be fetched; the message is for the source's owner. `passing`: the same may work later."""

    def __init__(self, message: str, *, passing: bool = False) -> None:
        super().__init__(message)
        self.passing = passing


class Refused(OSError):
    """The admin does not let this process connect to that address."""


@dataclass(frozen=True)
class Task:
    """What is to be fetched: the source's `parameters` and `credentials`, and the bounds of this lab.

    `clear_credentials`: whether they may go through a network that could read them. `check` raises `Refused`
    for an address that may not be connected to; code of Python's own is held to it without asking.
    `tell(done, total)` tells how many bytes have come, of how many if that is known. `protocols` has the
    bounds of what comes by git.
    """

    parameters: Mapping[str, Any]
    credentials: Mapping[str, str]
    work: Path
    max_bytes: int
    silent_seconds: float
    folders: tuple[Path, ...] = ()
    ca_file: Path | None = None
    clear_credentials: bool = False
    query_seconds: float = 600
    max_rows: int = 100_000_000
    max_objects: int = 1000
    max_listed: int = 100_000
    protocols: ProtocolsSection = field(default_factory=ProtocolsSection)
    check: Callable[[tuple[str, int]], None] = field(default=lambda address: None)
    tell: Callable[[int, int | None], None] = field(default=lambda done, total: None)


@dataclass(frozen=True)
class Fetched:
    """A file that came: where it lies (below `Task.work`), and what it is called where it came from.

    `parts` are several files, which are read together into one table in this order; `path` is then the
    directory in which they lie. `columns` are DuckDB's types by the columns' names, of a text with a header,
    every cell in quotation marks but those without a value; else they are found out. `protocol` is told with
    a pack of git.
    """

    path: Path
    name: str
    media_type: str = ""
    columns: Mapping[str, str] | None = None
    parts: Sequence[Fetched] = ()
    protocol: Mapping[str, Any] = field(default_factory=dict)


class Handler(ABC):
    """One way to fetch. `parameters` and `credentials` are JSON Schemas of objects; each property has a
    title, for forms are made of them. Credentials are texts, and never told to anybody; those with
    `"format": "password"` are not even shown while they are typed. `place` names the parameters that say to
    whom credentials are shown: where one of these changes, they have to be given again."""

    title: ClassVar[str]
    description: ClassVar[str]
    parameters: ClassVar[Schema]
    credentials: ClassVar[Schema] = {"type": "object", "properties": {}, "additionalProperties": False}
    place: ClassVar[Sequence[str]] = ()
    table: ClassVar[bool] = False
    """Whether what comes is a table in any case, of a format that nobody needs to name."""
    protocol: ClassVar[bool] = False
    """Whether what comes is no dataset, but a protocol: a pack of git, told with `Fetched.protocol`."""

    @abstractmethod
    def fetch(self, task: Task) -> Fetched:
        """Fetch the file; `FetchFailed` says why not."""

    @classmethod
    def described(cls) -> dict[str, Any]:
        """What people and forms are told."""
        return {
            "title": cls.title,
            "description": cls.description,
            "parameters": dict(cls.parameters),
            "credentials": dict(cls.credentials),
            "place": list(cls.place),
            "table": cls.table,
            "protocol": cls.protocol,
            # The database keeps no order of names, and people read them in this one.
            "order": [*cls.parameters["properties"], *cls.credentials["properties"]],
        }


class Receiver:
    """A file below `task.work` that is written piece by piece, within the bounds, and told."""

    def __init__(
        self, task: Task, total: int | None = None, *, path: Path | None = None, limit: int | None = None
    ) -> None:
        self.path = path or task.work / "fetched"
        self._task = task
        self._limit = task.max_bytes if limit is None else limit
        self._total = total
        self._done = 0
        self._file: BinaryIO | None = None
        if total is not None and total > self._limit:
            raise too_large(self._limit)

    def __enter__(self) -> Receiver:
        self._file = self.path.open("wb")
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()

    def take(self, piece: bytes) -> None:
        """Write a piece; `FetchFailed` when it is too much."""
        self._done += len(piece)
        if self._done > self._limit:
            raise too_large(self._limit)
        if self._file is not None:
            self._file.write(piece)
        self._task.tell(self._done, self._total)


def in_clear() -> FetchFailed:
    """The failure of credentials that anybody on the way could read."""
    return FetchFailed(
        "Its credentials would go through the network in clear, which this Labfleet does not allow: use an "
        "encrypted connection (https), or ask an admin."
    )


def too_large(limit: int) -> FetchFailed:
    """The failure of what is larger than this lab fetches."""
    return FetchFailed(f"It is larger than the {limit:,} bytes that this Labfleet fetches.")
