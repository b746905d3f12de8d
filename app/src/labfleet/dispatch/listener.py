"""Sleep until there is news: LISTEN on a connection of its own."""

from __future__ import annotations

import psycopg
from sqlalchemy import URL

from labfleet.db.engine import first_accepted, libpq_url
from labfleet.jobs.outbox import CHANNEL


class Listener:
    """A connection that listens to a channel; `psycopg.OperationalError` when the database is away."""

    def __init__(self, url: URL, connect_timeout: int, channel: str = CHANNEL) -> None:
        self._connection = first_accepted(
            str(url.password) if url.password else None,
            lambda password: psycopg.connect(
                conninfo=libpq_url(url),
                password=password,
                connect_timeout=connect_timeout,
                application_name=f"{channel}-listen",
                autocommit=True,
            ),
        )
        self._connection.execute(f"LISTEN {channel}")

    def wait(self, seconds: float) -> bool:
        """Whether news came within this time; all that came is one piece of news."""
        first = any(True for _ in self._connection.notifies(timeout=seconds, stop_after=1))
        return any(True for _ in self._connection.notifies(timeout=0)) or first

    def close(self) -> None:
        """End the connection."""
        self._connection.close()
