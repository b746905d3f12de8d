from __future__ import annotations

import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session, sessionmaker

from labfleet.db import upgrade
from labfleet.db.engine import engine_for
from labfleet.db.models import Base
from labfleet.dispatch.listener import Listener


@pytest.fixture
def empty(engine: Engine) -> Iterator[Engine]:
    """A database of its own, without a table."""
    name = f"labfleet_empty_{secrets.token_hex(6)}"
    autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
    with autocommit.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    other = engine_for(engine.url.set(database=name))
    yield other
    other.dispose()
    with autocommit.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


def test_the_migrations_make_what_the_models_describe(engine: Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
        assert upgrade.current(connection) == upgrade.newest()


def test_an_upgrade_tells_what_it_did_and_a_second_does_nothing(empty: Engine) -> None:
    first, second = upgrade.upgrade(empty), upgrade.upgrade(empty)
    assert (first.before, first.after) == (None, upgrade.newest())
    assert (second.before, second.after) == (upgrade.newest(), upgrade.newest())


def test_upgrades_at_once_wait_for_each_other(empty: Engine) -> None:
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: upgrade.upgrade(empty), range(4)))
    assert sorted(str(one.before) for one in done) == [str(upgrade.newest())] * 3 + ["None"]


def test_a_new_outbox_row_wakes_who_listens(engine: Engine, sessions: sessionmaker[Session]) -> None:
    listener = Listener(engine.url, 5)
    assert not listener.wait(0.05)
    with sessions.begin() as session:
        session.execute(text("INSERT INTO outbox (kind, task_id, attempt) SELECT 'run', id, 1 FROM tasks"))
    assert listener.wait(5)
    assert not listener.wait(0.05)
    listener.close()
