"""Tables of a MariaDB or MySQL, by a query in a transaction that only reads."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any, ClassVar

import pymysql
from pymysql.constants import FIELD_TYPE, FLAG
from pymysql.converters import conversions
from pymysql.cursors import SSCursor

from labfleet.fetching.handlers.base import FetchFailed, Schema, Task
from labfleet.fetching.handlers.http import trust
from labfleet.fetching.handlers.sql import (
    TEXT,
    Columns,
    Row,
    Sql,
    addresses,
    decimal,
    encrypted,
    named,
    parameters,
    telling,
    values_of,
)

WHOLE = {
    FIELD_TYPE.TINY: "TINYINT",
    FIELD_TYPE.SHORT: "SMALLINT",
    FIELD_TYPE.YEAR: "SMALLINT",
    FIELD_TYPE.INT24: "INTEGER",
    FIELD_TYPE.LONG: "INTEGER",
    FIELD_TYPE.LONGLONG: "BIGINT",
}
TYPES = {
    FIELD_TYPE.FLOAT: "FLOAT",
    FIELD_TYPE.DOUBLE: "DOUBLE",
    FIELD_TYPE.DATE: "DATE",
    FIELD_TYPE.NEWDATE: "DATE",
    FIELD_TYPE.DATETIME: "TIMESTAMP",
    FIELD_TYPE.TIMESTAMP: "TIMESTAMPTZ",
}
DATES = frozenset({"DATE", "TIMESTAMP", "TIMESTAMPTZ"})
NO_DATE = "0000-00-00"
AS_TEXT = {key: value for key, value in conversions.items() if not isinstance(key, int)}
"""How values are bound; what comes stays as the server writes it."""
PASSING = frozenset({1040, 1053, 1203, 1205, 1213, 2003, 2006, 2013})
"""Too many connections, shutting down, locks, no connection or one that broke off."""
TOO_LONG = frozenset({1969, 3024})


class Mariadb(Sql):
    """A table of a MariaDB or MySQL."""

    title = "MariaDB or MySQL database"
    description = "What a query brings, such as a table of your institute's database."
    port = 3306
    parameters: ClassVar[Schema] = parameters(3306, "%s")

    @contextmanager
    def rows(self, task: Task) -> Iterator[tuple[Columns, Iterator[Row]]]:
        """Run the query in a transaction that only reads. The driver sends one statement, never several."""
        given, port = task.parameters, self.port_of(task)
        addresses(given["host"], port, task.check)
        with telling(pymysql.Error, _words), closing(self._connected(task, port)) as connection:
            _bound(connection, task.query_seconds)
            cursor = connection.cursor(SSCursor)
            cursor.execute(given["query"].strip().rstrip(";"), values_of(given))
            result = cursor._result
            if result is None or not result.field_count:
                raise FetchFailed("The query brings no table: write a SELECT.")
            try:
                columns = named((each.name, _type(each)) for each in result.fields)
                yield columns, _cells(cursor, list(columns.values()))
            finally:
                result.unbuffered_active = False  # else closing it would read all that is left

    def _connected(self, task: Task, port: int) -> Any:
        given, secret = task.parameters, task.credentials
        tls = encrypted(task)
        try:
            return pymysql.connect(
                host=given["host"],
                port=port,
                database=given["database"],
                user=secret.get("user", "labfleet"),
                password=secret.get("password", ""),
                charset="utf8mb4",
                ssl=trust(task.ca_file) if tls else None,
                ssl_disabled=not tls,
                connect_timeout=max(2, round(task.silent_seconds)),
                read_timeout=task.query_seconds + task.silent_seconds,
                conv=AS_TEXT,
                local_infile=False,
                autocommit=False,
                program_name="labfleet",
            )
        except socket.gaierror:
            raise FetchFailed(f"There is no server '{given['host']}'.", passing=True) from None


def _bound(connection: Any, seconds: float) -> None:
    """Only reading, for so long at most, with times of UTC."""
    with connection.cursor() as cursor:
        with suppress(pymysql.Error):  # MariaDB's name for it, in seconds
            cursor.execute(f"SET SESSION max_statement_time = {seconds:.3f}")
        with suppress(pymysql.Error):  # MySQL's, in milliseconds
            cursor.execute(f"SET SESSION max_execution_time = {round(seconds * 1000)}")
        cursor.execute("SET SESSION time_zone = '+00:00'")
        cursor.execute("SET SESSION TRANSACTION READ ONLY")
        cursor.execute("START TRANSACTION READ ONLY")


def _type(field: Any) -> str:
    code = field.type_code
    if code in WHOLE:
        return ("U" if field.flags & FLAG.UNSIGNED and code != FIELD_TYPE.YEAR else "") + WHOLE[code]
    if code in {FIELD_TYPE.DECIMAL, FIELD_TYPE.NEWDECIMAL}:
        # Of the width that is shown, one place is the sign's and one the point's.
        shown = field.length - (not field.flags & FLAG.UNSIGNED) - (field.scale > 0)
        return decimal(shown, field.scale)
    return TYPES.get(code, TEXT)


def _cells(cursor: Any, kinds: list[str]) -> Iterator[Row]:
    dates = [number for number, kind in enumerate(kinds) if kind in DATES]
    while (found := cursor.fetchone()) is not None:
        row = [f"\\x{cell.hex()}" if isinstance(cell, bytes) else cell for cell in found]
        for number in dates:
            if row[number] is not None and row[number].startswith(NO_DATE):
                row[number] = None
        yield row


def _words(error: Any) -> tuple[str, bool]:
    code, *words = error.args or (0,)
    if code in TOO_LONG:
        return "the query took too long", False
    told = str(words[0]) if words else str(code)
    return told, code in PASSING and "certificate" not in told.lower() and "lies in no network" not in told
