"""Engine and sessions. A service function takes a session and never commits; its caller does:

with session_factory(engine)() as session, session.begin():
    service.submit(session, …)
"""

from __future__ import annotations

from sqlalchemy import URL, Engine, create_engine
from sqlalchemy.orm import Session, sessionmaker

from labfleet.config import DatabaseSection


def database_url(database: DatabaseSection, password: str | None, user: str | None = None) -> URL:
    """The psycopg URL of `[database]`, for `user` or the section's own user."""
    return URL.create(
        "postgresql+psycopg",
        username=user or database.user,
        password=password,
        host=database.host,
        port=database.port,
        database=database.name,
    )


def make_engine(database: DatabaseSection, password: str | None, user: str | None = None) -> Engine:
    """An engine with the section's pool size and time limit, that notices dead connections."""
    return engine_for(
        database_url(database, password, user),
        pool_size=database.pool_size,
        connect_timeout=database.connect_timeout_seconds,
    )


def engine_for(url: URL | str, *, pool_size: int = 10, connect_timeout: int = 5) -> Engine:
    """An engine for a URL; times come back in UTC whatever the server's zone is."""
    return create_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_pre_ping=True,
        connect_args={
            "connect_timeout": connect_timeout,
            "options": "-c timezone=UTC",
            "application_name": "labfleet",
        },
    )


def session_factory(engine: Engine) -> sessionmaker[Session]:
    """Sessions whose objects stay readable after the commit."""
    return sessionmaker(engine, expire_on_commit=False)
