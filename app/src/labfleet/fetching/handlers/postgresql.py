"""Tables of a PostgreSQL, by a query in a transaction that only reads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import psycopg
from psycopg.types.string import TextLoader

from labfleet.fetching.handlers.base import Schema, Task
from labfleet.fetching.handlers.sql import (
    ROWS_AT_ONCE,
    TEXT,
    Columns,
    Row,
    Sql,
    addresses,
    authorities,
    decimal,
    encrypted,
    named,
    parameters,
    telling,
    values_of,
)

TYPES = {
    "bool": "BOOLEAN",
    "int2": "SMALLINT",
    "int4": "INTEGER",
    "int8": "BIGINT",
    "oid": "UINTEGER",
    "float4": "FLOAT",
    "float8": "DOUBLE",
    "date": "DATE",
    "time": "TIME",
    "timestamp": "TIMESTAMP",
    "timestamptz": "TIMESTAMPTZ",
    "uuid": "UUID",
}
PASSING = ("08", "40", "53", "57")
"""Classes of errors after which the same may go well later: connection, rollback, resources, operator."""

BUSY = ("starting up", "shutting down", "too many", "remaining connection slots")
"""What a server says that refuses for now."""


class Postgresql(Sql):
    """A table of a PostgreSQL."""

    title = "PostgreSQL database"
    description = "What a query brings, such as a table of your institute's database."
    port = 5432
    parameters: ClassVar[Schema] = parameters(5432, "%s")

    @contextmanager
    def rows(self, task: Task) -> Iterator[tuple[Columns, Iterator[Row]]]:
        """Declare a cursor for the query: PostgreSQL takes nothing but one that brings rows."""
        given = task.parameters
        port = self.port_of(task)
        found = addresses(given["host"], port, task.check)
        with telling(psycopg.Error, _words), self._connected(task, found, port) as connection:
            for info in psycopg.adapters.types:  # as PostgreSQL writes it, which is exact
                for oid in filter(None, (info.oid, info.array_oid)):
                    connection.adapters.register_loader(oid, TextLoader)
            connection.read_only = True
            for name, value in (
                ("statement_timeout", f"{round(task.query_seconds * 1000)}"),
                ("DateStyle", "ISO"),
                ("TimeZone", "UTC"),
            ):
                connection.execute("SELECT set_config(%s, %s, false)", [name, value])
            with connection.cursor("labfleet") as cursor:
                cursor.itersize = ROWS_AT_ONCE
                cursor.execute(given["query"].strip().rstrip(";").encode(), values_of(given))
                yield named((each.name, _type(each)) for each in cursor.description or []), iter(cursor)

    def _connected(self, task: Task, found: list[str], port: int) -> Any:
        given, secret = task.parameters, task.credentials
        tls = encrypted(task)
        return psycopg.connect(
            host=",".join([given["host"]] * len(found)),
            hostaddr=",".join(found),
            port=port,
            dbname=given["database"],
            user=secret.get("user", "labfleet"),
            password=secret.get("password", ""),
            sslmode="verify-full" if tls else "disable",
            sslrootcert=str(authorities(task)) if tls else "",
            sslcert=str(task.work / "none"),
            gssencmode="disable",
            passfile=str(task.work / "none"),
            connect_timeout=max(2, round(task.silent_seconds)),
            application_name="labfleet",
        )


def _type(column: psycopg.Column) -> str:
    info = psycopg.adapters.types.get(column.type_code)
    name = info.name if info else ""
    if name == "numeric":
        return decimal(column.precision, column.scale)
    return TYPES.get(name, TEXT) if info and info.oid == column.type_code else TEXT


def _words(error: psycopg.Error) -> tuple[str, bool]:
    state = error.sqlstate
    if isinstance(error, psycopg.errors.QueryCanceled):
        return "the query took too long", False
    if state is None:  # there was no connection, or it broke off
        said = str(error)
        refused = "FATAL:" in said and not any(word in said for word in BUSY)
        passing = isinstance(error, psycopg.OperationalError) and not refused and "certificate" not in said
        return said.splitlines()[-1], passing
    place = f" (at character {error.diag.statement_position})" if error.diag.statement_position else ""
    return f"{error.diag.message_primary}{place}", state.startswith(PASSING)
