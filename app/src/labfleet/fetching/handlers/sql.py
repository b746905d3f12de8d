"""Tables of databases, by one query that only reads: PostgreSQL, and MariaDB or MySQL.

What comes is written as text, with the type of each column beside it (`Fetched.columns`). A driver gets an
address only after the guard has let it through, for libpq is no code of Python's.
"""

from __future__ import annotations

import socket
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from labfleet.fetching.handlers.base import (
    Fetched,
    FetchFailed,
    Handler,
    Receiver,
    Refused,
    Schema,
    Task,
    in_clear,
)

SYSTEM_AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
ROWS_AT_ONCE = 2000
TEXT = "VARCHAR"
MOST_DIGITS = 38
"""Decimals with more become floating point."""
Row = Sequence[Any]
Columns = dict[str, str]


class Sql(Handler):
    """What both kinds of database have in common."""

    port: ClassVar[int]
    place: ClassVar[Sequence[str]] = ("host", "port", "database", "tls")
    table = True
    credentials: ClassVar[Schema] = {
        "type": "object",
        "properties": {
            "user": {"type": "string", "title": "User", "minLength": 1, "maxLength": 500},
            "password": {
                "type": "string",
                "title": "Password",
                "description": "Best of an account that may only read.",
                "format": "password",
                "minLength": 1,
                "maxLength": 4000,
            },
        },
        "dependentRequired": {"password": ["user"]},
        "additionalProperties": False,
    }

    def fetch(self, task: Task) -> Fetched:
        """Run the query, and write what it brings."""
        if not encrypted(task) and task.credentials and not task.clear_credentials:
            raise in_clear()
        try:
            with self.rows(task) as (columns, rows):
                return written(task, columns, rows)
        except Refused as error:
            raise FetchFailed(f"It can't be fetched: {error}.") from None

    @abstractmethod
    def rows(self, task: Task) -> Any:
        """A context with the columns and the rows of the query, each cell as text or None."""

    @classmethod
    def port_of(cls, task: Task) -> int:
        """Where the database listens."""
        return int(task.parameters.get("port", cls.port))


def encrypted(task: Task) -> bool:
    """Whether the database is spoken to by TLS, its certificate checked."""
    return bool(task.parameters.get("tls", "verify") == "verify")


def parameters(port: int, mark: str) -> Schema:
    """The schema of a database's parameters."""
    text = {"type": "string", "minLength": 1, "maxLength": 250}
    return {
        "type": "object",
        "properties": {
            "host": text | {"title": "Server", "description": "Its name, such as db.example.org."},
            "database": text | {"title": "Database"},
            "query": {
                "type": "string",
                "title": "Query",
                "description": "One SELECT. The table is what it brings.",
                "minLength": 1,
                "maxLength": 20_000,
            },
            "values": {
                "type": "array",
                "title": "Values",
                "description": f"For each {mark} of the query one, in this order, one on a line.",
                "items": {"type": "string", "maxLength": 10_000},
                "maxItems": 1000,
            },
            "port": {
                "type": "integer",
                "title": "Port",
                "description": f"{port} without it.",
                "minimum": 1,
                "maximum": 65535,
            },
            "tls": {
                "type": "string",
                "title": "Encryption",
                "description": "verify: encrypted, and the server's certificate is checked. off: in clear.",
                "enum": ["verify", "off"],
                "default": "verify",
            },
        },
        "required": ["host", "database", "query"],
        "additionalProperties": False,
    }


def written(task: Task, columns: Columns, rows: Iterable[Row]) -> Fetched:
    """The rows as text with separators, which only the columns' types make a table of."""
    number = 0
    with Receiver(task) as receiver:
        receiver.take((",".join(map(quoted, columns)) + "\n").encode())
        for several in batches(rows):
            number += len(several)
            if number > task.max_rows:
                raise FetchFailed(
                    f"It has more than the {task.max_rows:,} rows that this Labfleet fetches of a database."
                )
            lines = "".join(",".join(map(quoted, row)) + "\n" for row in several)
            receiver.take(lines.encode())
    return Fetched(receiver.path, "query.csv", "text/csv", columns)


def batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """So many rows at once that writing them costs little for each."""
    several: list[Row] = []
    for row in rows:
        several.append(row)
        if len(several) == ROWS_AT_ONCE:
            yield several
            several = []
    if several:
        yield several


def quoted(cell: Any) -> str:
    """A cell; what is missing is not quoted, and an empty text is."""
    return "" if cell is None else '"' + str(cell).replace('"', '""') + '"'


def named(names: Iterable[tuple[str, str]]) -> Columns:
    """Columns by their names, which have to differ."""
    columns: Columns = {}
    for name, kind in names:
        if name in columns:
            raise FetchFailed(f"The query has several columns '{name}': give them names (SELECT … AS …).")
        columns[name] = kind
    return columns


def decimal(digits: int | None, places: int | None) -> str:
    """The type of decimals of so many digits."""
    if digits is None or places is None or not 0 < digits <= MOST_DIGITS or not 0 <= places <= digits:
        return "DOUBLE"
    return f"DECIMAL({digits},{places})"


def addresses(host: str, port: int, check: Callable[[tuple[str, int]], None]) -> list[str]:
    """The addresses of a name, of which each may be connected to (`Refused`)."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise FetchFailed(f"There is no server '{host}'.", passing=True) from None
    resolved = list(dict.fromkeys(str(each[4][0]) for each in found))
    for address in resolved:
        check((address, port))
    return resolved


def authorities(task: Task) -> Path:
    """A file of the authorities that are trusted: the system's, and that of the lab's setting."""
    if task.ca_file is None:
        return SYSTEM_AUTHORITIES
    together = task.work / "authorities.pem"
    together.write_bytes(SYSTEM_AUTHORITIES.read_bytes() + b"\n" + task.ca_file.read_bytes())
    return together


@contextmanager
def telling(errors: type[Exception], tell: Callable[[Any], tuple[str, bool]]) -> Iterator[None]:
    """What the driver says against it as `FetchFailed`. `tell`: its words, and whether it may pass."""
    try:
        yield
    except errors as error:
        words, passing = tell(error)
        raise FetchFailed(f"The database says: {words.strip().rstrip('.')}.", passing=passing) from None


def values_of(given: Mapping[str, Any]) -> list[str] | None:
    """What is bound to the query; without any, it is taken as it stands."""
    return list(given.get("values", [])) or None
