#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Print rows and checksum of every table as JSON, and the place in the log at which they were taken. For the user postgres.

    fingerprint.py DATABASE PORT

All tables are looked at as they stood at one moment, exactly, although others write: writers wait for a few milliseconds,
then they go on while the tables are read. The same data gives the same sums on any server of one version.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import psycopg2
from psycopg2.sql import SQL, Composable, Identifier

TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"
# A sum needs no order, and no memory for a table of any size.
SUMS = SQL("SELECT count(*), coalesce(sum(hashtextextended(t::text, 0)::numeric), 0)::text FROM public.{} t")


def main() -> None:
    """Entry point."""
    database, port = sys.argv[1], int(sys.argv[2])
    holder, reader = (psycopg2.connect(dbname=database, port=port) for _ in range(2))
    holder.autocommit = True
    with holder.cursor() as held, reader.cursor() as cursor:
        names = [row[0] for row in rows(held, TABLES)]
        held.execute("SET lock_timeout = '20s'")
        held.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        # Before the first look: the snapshot is taken while nobody writes, so it sees just what is before that place.
        tables = SQL(", ").join(Identifier("public", name) for name in names)
        held.execute(SQL("LOCK TABLE {} IN SHARE MODE").format(tables))
        ((position, snapshot),) = rows(held, "SELECT pg_current_wal_insert_lsn()::text, pg_export_snapshot()")
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        cursor.execute("SET TRANSACTION SNAPSHOT %s", (snapshot,))
        held.execute("COMMIT")
        cursor.execute("SET LOCAL TIME ZONE 'UTC'")
        sums = {name: list(rows(cursor, SUMS.format(Identifier(name)))[0]) for name in names}
    print(json.dumps({"position": position, "tables": sums}))


def rows(cursor: Any, statement: str | Composable) -> list[tuple[Any, ...]]:
    """What a statement answers."""
    cursor.execute(statement)
    found: list[tuple[Any, ...]] = cursor.fetchall()
    return found


if __name__ == "__main__":
    main()
