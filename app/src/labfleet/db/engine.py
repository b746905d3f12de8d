"""Engine and sessions. A service function takes a session and never commits; its caller does:

with session_factory(engine)() as session, session.begin():
    service.submit(session, …)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import psycopg
from sqlalchemy import URL, Engine, create_engine, event, text
from sqlalchemy.orm import Session, sessionmaker

from labfleet.config import DatabaseSection

T = TypeVar("T")


def database_url(database: DatabaseSection, password: str | None, user: str | None = None) -> URL:
    """The psycopg URL of `[database]`, for `user` or the section's own user."""
    return URL.create(
        "postgresql+psycopg",
        username=user or database.user,
        password=password,
        database=database.name,
        query={
            "host": ",".join(database.hosts),
            "port": ",".join(str(database.port) for _ in database.hosts),
            **(_of_several(database) if len(database.hosts) > 1 else {}),
            **({"sslmode": "verify-full", "sslrootcert": str(database.ca_file)} if database.ca_file else {}),
        },
    )


def _of_several(database: DatabaseSection) -> dict[str, str]:
    """Go to the host that takes writes, and notice when it has lost its power: nobody says goodbye then."""
    seconds = database.silent_seconds
    return {
        "target_session_attrs": "read-write",
        "tcp_user_timeout": str(seconds * 1000),
        "keepalives_idle": str(max(seconds // 2, 1)),
        "keepalives_interval": str(max(seconds // 4, 1)),
        "keepalives_count": "2",
    }


MANY_ROWS = 500
"""From here on a plan made for a small table costs more than making it anew."""


def forget_plans(session: Session, rows: int) -> None:
    """To be called before so many rows are written that refer to others of which as many are new.

    The check of each reference keeps its plan as long as the connection lasts. Made when the table was one
    page, it reads the whole table for each row: minutes for a large job in a lab that has run ten small ones.
    """
    if rows >= MANY_ROWS:
        session.flush()
        session.execute(text("DISCARD PLANS"))


def libpq_url(url: URL) -> str:
    """The same for psycopg itself. It holds the password: not for logs."""
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


def make_engine(database: DatabaseSection, password: str | None, user: str | None = None) -> Engine:
    """An engine with the section's pool size and time limit, that notices dead connections."""
    return engine_for(
        database_url(database, password, user),
        pool_size=database.pool_size,
        connect_timeout=database.connect_timeout_seconds,
    )


def engine_for(url: URL | str, *, pool_size: int = 10, connect_timeout: int = 5) -> Engine:
    """An engine for a URL; times come back in UTC whatever the server's zone is.

    A password of several lines is several passwords, tried in turn: while one is rotated, two may be right.
    """
    engine = create_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_pre_ping=True,
        connect_args={
            "connect_timeout": connect_timeout,
            # No statement of ours takes as long as compiling it would; searches took seconds for that alone.
            "options": "-c timezone=UTC -c jit=off",
            "application_name": "labfleet",
        },
    )
    event.listen(engine, "do_connect", _connect)
    return engine


def first_accepted(passwords: str | None, connect: Callable[[str | None], T]) -> T:
    """Connect with the first password that does it, one a line."""
    first, _, others = (passwords or "").partition("\n")
    try:
        return connect(first or None)
    except psycopg.OperationalError:
        if not others:
            raise
    return first_accepted(others, connect)


def _connect(dialect: Any, _record: Any, arguments: Any, parameters: dict[str, Any]) -> Any:
    return first_accepted(
        parameters.get("password"),
        lambda password: dialect.connect(*arguments, **{**parameters, "password": password}),
    )


def session_factory(engine: Engine) -> sessionmaker[Session]:
    """Sessions whose objects stay readable after the commit."""
    return sessionmaker(engine, expire_on_commit=False)
