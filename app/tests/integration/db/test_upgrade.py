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
from labfleet.errors import Conflict


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


def test_an_empty_database_gets_everything_in_the_first_phase(empty: Engine) -> None:
    done = upgrade.upgrade(empty, upgrade.Phase.PRE)
    assert (done.after, done.waiting) == (upgrade.newest(), [])
    with empty.connect() as connection:
        kept = (
            connection.execute(text("SELECT revision FROM schema_changes ORDER BY revision")).scalars().all()
        )
    assert kept == [change.revision for change in upgrade.changes()]


def newer(empty: Engine, *, safe: bool) -> None:
    """What a newer release leaves: a revision that this one does not know."""
    upgrade.upgrade(empty)
    with empty.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        connection.execute(
            text(
                "INSERT INTO schema_changes (revision, phase, rollback_safe) VALUES ('9999', 'post', :safe)"
            ),
            {"safe": safe},
        )


def test_what_a_newer_release_has_changed_is_lived_with_where_that_is_possible(empty: Engine) -> None:
    newer(empty, safe=True)
    done = upgrade.upgrade(empty)
    assert (done.before, done.after) == ("9999", "9999")
    found = upgrade.status(empty)
    assert [change.revision for change in found.unknown] == ["9999"]
    assert found.pending == []


def test_what_this_release_can_t_live_with_is_refused(empty: Engine) -> None:
    newer(empty, safe=False)
    with pytest.raises(Conflict, match="9999"):
        upgrade.upgrade(empty)
