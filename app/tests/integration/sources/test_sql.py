"""Tables of real databases: PostgreSQL, and a MariaDB that the tests start."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pytest
from sqlalchemy import URL

from labfleet.fetching.convert import RESULT, convert
from labfleet.fetching.handlers.base import FetchFailed, Handler, Task
from labfleet.fetching.handlers.mariadb import Mariadb
from labfleet.fetching.handlers.postgresql import Postgresql

from . import databases
from .conftest import Lab

Table = tuple[dict[str, str], list[tuple[Any, ...]]]
CELLS = """
    CREATE TABLE cells (id bigint, name text, n integer, share double precision,
        size numeric(8,3), good boolean,
        day date, at timestamp, zoned timestamptz, more jsonb, list integer[], raw bytea);
    INSERT INTO cells VALUES
        (1, 'a "b", ''c''
d', 7, 0.1, 12345.678, true, '2024-02-29', '2024-02-29 10:00:00.5', '2024-02-29 10:00+02',
        '{"k": 1}', '{1,2}', 'ab'),
        (9007199254740993, '', NULL, 'NaN', NULL, false, NULL, NULL, NULL, NULL, NULL, NULL),
        (3, NULL, -1, 'Infinity', -0.001, NULL, '1900-01-01', NULL, NULL, NULL, NULL, NULL);
"""
ROWS = [
    (1, "a \"b\", 'c'\nd", 7, 0.1, Decimal("12345.678"), True),
    (9007199254740993, "", None, Decimal("0"), None, False),
    (3, None, -1, float("inf"), Decimal("-0.001"), None),
]


@pytest.fixture(scope="module")
def mariadb(
    tmp_path_factory: pytest.TempPathFactory, tls: Path, mariadb_port: int
) -> Iterator[databases.Mariadb]:
    folder = tmp_path_factory.mktemp("mariadb") / "of"
    with databases.mariadb(folder, mariadb_port, tls) as server:
        server.run(
            "CREATE TABLE lab.cells (id bigint unsigned, name text, n int, share double, size decimal(8,3), "
            "good tinyint(1), day date, at datetime(3), zoned timestamp null, raw blob)",
            "SET SESSION time_zone = '+02:00'",
            r"""INSERT INTO lab.cells VALUES (18446744073709551615, 'a "b", ''c''\nd', 7, 0.1, 12345.678, 1,
            '2024-02-29', '2024-02-29 10:00:00.5', '2024-02-29 10:00:00', 'ab'),
            (2, '', NULL, NULL, NULL, 0, NULL, NULL, NULL, NULL), (3, NULL, -1, 1e300, -0.001, NULL,
            '1900-01-01', NULL, NULL, NULL)""",
        )
        yield server


@pytest.fixture
def postgresql(database_url: URL) -> Iterator[dict[str, Any]]:
    """The parameters of a table there."""
    made = psycopg.connect(
        host=database_url.host,
        port=database_url.port,
        dbname=database_url.database,
        user=database_url.username,
        password=database_url.password,
        autocommit=True,
    )
    made.execute(f"CREATE SCHEMA source; SET search_path = source; {CELLS}")
    yield {
        "host": database_url.host,
        "port": database_url.port or 5432,
        "database": database_url.database,
        "tls": "off",
    }
    made.execute("DROP SCHEMA source CASCADE")
    made.close()


@pytest.fixture
def secrets(database_url: URL) -> dict[str, str]:
    return {"user": database_url.username or "", "password": str(database_url.password or "")}


@pytest.fixture
def task(tmp_path: Path, tls: Path) -> Task:
    return Task({}, {}, tmp_path, 10**8, 20, ca_file=tls / "ca.crt", clear_credentials=True)


def fetched(handler: type[Handler], task: Task, **parameters: Any) -> Table:
    """Types and rows of what comes out as Parquet."""
    came = handler().fetch(replace(task, parameters={**task.parameters, **parameters}))
    asked = {"path": str(came.path), "format": "text", "columns": came.columns, "work": str(task.work)}
    (task.work / "table.duckdb").unlink(missing_ok=True)
    convert(asked | {"memory_bytes": 200 * 1024**2})
    duck = duckdb.connect()
    duck.execute("SET TimeZone = 'UTC'")
    source = f"read_parquet('{task.work / RESULT}')"
    kinds = {name: kind for name, kind, *_ in duck.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()}
    return kinds, duck.execute(f"SELECT * REPLACE ({_texts(kinds)}) FROM {source}").fetchall()


def _texts(kinds: dict[str, str]) -> str:
    """Times as text: they are compared as they are, whatever this machine's zone is."""
    times = [name for name, kind in kinds.items() if kind.startswith(("TIMESTAMP", "DATE"))]
    return ", ".join(f'CAST("{name}" AS VARCHAR) AS "{name}"' for name in times or list(kinds)[:1])


def test_postgresql_s_types(task: Task, postgresql: dict[str, Any], secrets: dict[str, str]) -> None:
    given = replace(task, parameters=postgresql, credentials=secrets)
    kinds, rows = fetched(Postgresql, given, query="SELECT * FROM source.cells ORDER BY n DESC NULLS LAST;")
    assert list(kinds.values()) == [
        *("BIGINT", "VARCHAR", "INTEGER", "DOUBLE", "DECIMAL(8,3)", "BOOLEAN"),
        *("DATE", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE", "VARCHAR", "VARCHAR", "VARCHAR"),
    ]
    first, second, third = rows
    assert first[:6] == ROWS[0]
    assert first[6:] == (
        *("2024-02-29", "2024-02-29 10:00:00.5", "2024-02-29 08:00:00+00", '{"k": 1}', "{1,2}", "\\x6162"),
    )
    assert second[:6] == ROWS[2] and second[6] == "1900-01-01"
    assert third[0] == 9007199254740993 and third[1] == "" and str(third[3]) == "nan"
    assert third[6:] == (None,) * 6


def test_mariadb_s_types(task: Task, mariadb: databases.Mariadb) -> None:
    given = of_mariadb(task, mariadb)
    kinds, rows = fetched(Mariadb, given, query="SELECT * FROM cells ORDER BY n DESC")
    assert list(kinds.values()) == [
        *("UBIGINT", "VARCHAR", "INTEGER", "DOUBLE", "DECIMAL(8,3)", "TINYINT"),
        *("DATE", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE", "VARCHAR"),
    ]
    assert rows[0][:6] == (18446744073709551615, *ROWS[0][1:5], 1)
    assert rows[0][6:] == ("2024-02-29", "2024-02-29 10:00:00.5", "2024-02-29 08:00:00+00", "\\x6162")
    assert rows[1][:6] == (3, None, -1, 1e300, Decimal("-0.001"), None)
    assert rows[2][:6] == (2, "", None, None, None, 0)


def of_mariadb(task: Task, server: databases.Mariadb, **more: Any) -> Task:
    parameters = {"host": "localhost", "port": server.port, "database": "lab"} | more
    secrets = {"user": databases.USER, "password": databases.PASSWORD}
    return replace(task, parameters=parameters, credentials=secrets)


@pytest.fixture(params=["postgresql", "mariadb"])
def either(
    request: pytest.FixtureRequest, task: Task, postgresql: dict[str, Any], secrets: dict[str, str]
) -> tuple[type[Handler], Task, str]:
    """A handler, a task without query, and the table's name."""
    if request.param == "mariadb":
        return Mariadb, of_mariadb(task, request.getfixturevalue("mariadb")), "cells"
    return Postgresql, replace(task, parameters=postgresql, credentials=secrets), "source.cells"


def test_values_are_bound(either: tuple[type[Handler], Task, str]) -> None:
    handler, task, table = either
    query = f"SELECT n FROM {table} WHERE name = %s OR name = %s"
    _, rows = fetched(handler, task, query=query, values=["a \"b\", 'c'\nd", "' OR 1=1 -- "])
    assert rows == [("7",)]
    _, rows = fetched(handler, task, query=f"SELECT n FROM {table} WHERE name LIKE 'a%'")
    assert rows == [("7",)]
    kinds, rows = fetched(handler, task, query=f"SELECT n FROM {table} WHERE n > 100")
    assert (kinds, rows) == ({"n": "INTEGER"}, [])


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM {t}",
        "SELECT 1; DELETE FROM {t}",
        "SELECT 1 AS a; COMMIT; DELETE FROM {t}",
        "COMMIT",
        "DROP TABLE {t}",
        "CREATE TABLE {t}2 AS SELECT 1 AS a",
        "INSERT INTO {t} (n) VALUES (1)",
        "SET TRANSACTION READ WRITE",
        "WITH gone AS (DELETE FROM {t} RETURNING n) SELECT * FROM gone",
        "nonsense",
        "SELECT n, n FROM {t}",
        "SELECT nothing FROM {t}",
    ],
)
def test_nothing_but_one_query_that_reads(either: tuple[type[Handler], Task, str], query: str) -> None:
    handler, task, table = either
    with pytest.raises(FetchFailed) as told:
        fetched(handler, task, query=query.format(t=table))
    assert not told.value.passing and databases.PASSWORD not in str(told.value)
    _, rows = fetched(handler, task, query=f"SELECT count(*) AS n FROM {table}")
    assert rows == [("3",)]


def test_bounds_of_time_rows_and_bytes(either: tuple[type[Handler], Task, str]) -> None:
    handler, task, table = either
    slow = "SELECT pg_sleep(30)" if handler is Postgresql else "SELECT sleep(30) FROM cells"
    with pytest.raises(FetchFailed, match="The database says: the query took too long"):
        fetched(handler, replace(task, query_seconds=0.3), query=slow)
    with pytest.raises(FetchFailed, match="more than the 2 rows"):
        fetched(handler, replace(task, max_rows=2), query=f"SELECT n FROM {table}")
    with pytest.raises(FetchFailed, match="larger than the 20 bytes"):
        fetched(handler, replace(task, max_bytes=20), query=f"SELECT name, n, share FROM {table}")


def test_who_is_not_let_in_is_told(either: tuple[type[Handler], Task, str], unused_port: int) -> None:
    handler, task, _ = either
    closed = replace(task, parameters=task.parameters | {"port": unused_port})
    with pytest.raises(FetchFailed) as away:
        fetched(handler, closed, query="SELECT 1 AS a")
    assert away.value.passing
    wrong = replace(task, credentials={"user": "nobody-here", "password": "wr0ng-pass"})
    with pytest.raises(FetchFailed) as told:
        fetched(handler, wrong, query="SELECT 1 AS a")
    assert not told.value.passing and "nobody-here" in str(told.value) and "wr0ng-pass" not in str(told.value)
    with pytest.raises(FetchFailed, match=r"There is no server 'no\.such\.invalid'"):
        fetched(handler, task, query="SELECT 1 AS a", host="no.such.invalid")


@pytest.fixture
def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_certificates_are_looked_at_and_passwords_not_sent_in_clear(
    either: tuple[type[Handler], Task, str], mariadb: databases.Mariadb
) -> None:
    handler, task, _ = either
    in_clear = replace(task, parameters=task.parameters | {"tls": "off"}, clear_credentials=False)
    with pytest.raises(FetchFailed, match="would go through the network in clear"):
        fetched(handler, in_clear, query="SELECT 1 AS a")
    # An authority that did not sign it; PostgreSQL here has no certificate, or one of another authority.
    strange = replace(task, parameters=task.parameters | {"tls": "verify"}, ca_file=None)
    with pytest.raises(FetchFailed, match=r"(?i)SSL|certificate") as told:
        fetched(handler, strange, query="SELECT 1 AS a")
    assert not told.value.passing or handler is Postgresql
    if handler is Mariadb:
        other_name = of_mariadb(task, mariadb, host="127.0.0.2")
        with pytest.raises(FetchFailed, match=r"(?i)certificate|can't connect"):
            fetched(handler, other_name, query="SELECT 1 AS a")


def test_by_loader_and_fetcher(
    lab: Lab, mariadb: databases.Mariadb, postgresql: dict[str, Any], secrets: dict[str, str]
) -> None:
    sources = {
        "maria": lab.source(
            "maria",
            given={"user": databases.USER, "password": databases.PASSWORD},
            handler="mariadb",
            parameters={
                "host": "localhost",
                "port": mariadb.port,
                "database": "lab",
                "query": "SELECT n FROM cells",
            },
            transform=[{"filter": {"column": "n", "is": "given"}}],
        ),
        "post": lab.source(
            "post",
            given=secrets if secrets["password"] else {"user": secrets["user"]},
            handler="postgresql",
            parameters=postgresql | {"query": "SELECT n FROM source.cells WHERE n IS NOT NULL"},
        ),
    }
    for name, source in sources.items():
        fetch = lab.fetched(source)
        assert (fetch.state, fetch.rows) == ("success", 2), (name, fetch.message)
    # The guard is asked for each address, also where the driver is no code of Python's.
    for handler in ("postgresql", "mariadb"):
        for address, port, told in (
            ("10.1.2.3", mariadb.port, "10.1.2.3 lies in no network that may be fetched from"),
            ("127.0.0.1", 1, "its port 1 may not be fetched from"),
        ):
            parameters = {"host": address, "port": port, "database": "lab", "query": "SELECT 1"}
            source = lab.source(f"{handler} {port}", handler=handler, parameters=parameters)
            closed = lab.fetched(source)
            assert (closed.state, closed.tries) == ("failed", 1) and told in closed.message, closed.message
