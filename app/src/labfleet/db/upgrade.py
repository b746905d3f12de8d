"""Bring the database's schema to what this release needs, and give the roles their rights."""

from __future__ import annotations

from dataclasses import dataclass

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

from labfleet.db.grants import apply_grants

# Any constant does: it makes two upgrades at once wait for each other.
_LOCK = 4_150_317


@dataclass(frozen=True)
class Upgraded:
    """What an upgrade did: the revision before (None: empty) and after, and the roles that got rights."""

    before: str | None
    after: str | None
    roles: list[str]


def upgrade(engine: Engine) -> Upgraded:
    """Migrate to the newest revision and grant, in one transaction; harmless when there is nothing to do."""
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        before = current(connection)
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        return Upgraded(before, current(connection), apply_grants(connection))


def current(connection: Connection) -> str | None:
    """The database's revision, None for an empty one."""
    return MigrationContext.configure(connection).get_current_revision()


def newest() -> str | None:
    """The revision that this release needs."""
    return ScriptDirectory.from_config(_config()).get_current_head()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", "labfleet:db/migrations")
    return config
