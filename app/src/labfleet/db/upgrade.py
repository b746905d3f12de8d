"""Bring the database's schema to what this release needs, and give the roles their rights.

Each revision says in `phase` when it may run during an update: `pre` before any new code runs (the old code
must be able to live with it), `post` after all code is new. `rollback_safe`: whether the previous code can
live with it afterwards; for `pre` it always can. Within a release all `pre` revisions come first.
The table `schema_changes` keeps both, so that an older release can tell what it may live with.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from sqlalchemy import Connection, Engine, func, select
from sqlalchemy.dialects.postgresql import insert

from labfleet.db.grants import apply_grants
from labfleet.db.models import SchemaChange
from labfleet.errors import Conflict

# Any constant does: it makes two upgrades at once wait for each other.
_LOCK = 4_150_317


class Phase(StrEnum):
    """When a revision runs during an update."""

    PRE = "pre"
    POST = "post"


@dataclass(frozen=True)
class Change:
    """One revision and what it says of itself."""

    revision: str
    phase: Phase
    rollback_safe: bool


@dataclass(frozen=True)
class Upgraded:
    """What an upgrade did: the revision before (None: empty) and after, the roles that got rights, and the
    revisions that wait for the phase `post`."""

    before: str | None
    after: str | None
    roles: list[str]
    waiting: list[str]


@dataclass(frozen=True)
class Status:
    """Where the database is: its revision, the newest that this release knows, what is still to run, and what
    has run that this release does not know (a newer one's)."""

    current: str | None
    newest: str | None
    pending: list[Change]
    unknown: list[Change]


def upgrade(engine: Engine, phase: Phase | None = None) -> Upgraded:
    """Migrate and grant, in one transaction; harmless when there is nothing to do.

    `PRE` stops before the first revision that has to wait for the new code, and takes no right away while
    one waits. An empty database gets everything: nobody uses it yet. A database that a newer release has
    changed stays as it is, if this release can live with that; else `Conflict`.
    """
    with engine.begin() as connection:
        connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
        found = _status(connection)
        if found.unknown:
            _require_livable(found)
            return Upgraded(found.current, found.current, apply_grants(connection, withdraw=False), [])
        run, waiting = _split(found.pending, None if found.current is None else phase)
        if run:
            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, run[-1].revision)
        _remember(connection)
        roles = apply_grants(connection, withdraw=not waiting)
        return Upgraded(found.current, current(connection), roles, [change.revision for change in waiting])


def status(engine: Engine) -> Status:
    """Where the database is."""
    with engine.connect() as connection:
        return _status(connection)


def current(connection: Connection) -> str | None:
    """The database's revision, None for an empty one."""
    return MigrationContext.configure(connection).get_current_revision()


def newest() -> str | None:
    """The revision that this release needs."""
    return ScriptDirectory.from_config(_config()).get_current_head()


def changes() -> list[Change]:
    """All revisions of this release, oldest first."""
    directory = ScriptDirectory.from_config(_config())
    return [_change(script) for script in reversed(list(directory.walk_revisions()))]


def _change(script: Script) -> Change:
    module: Any = script.module
    return Change(script.revision, Phase(module.phase), module.rollback_safe)


def _status(connection: Connection) -> Status:
    known, now = changes(), current(connection)
    names = [change.revision for change in known]
    if now is None or now in names:
        done = 0 if now is None else names.index(now) + 1
        return Status(now, names[-1], known[done:], [])
    columns = SchemaChange.revision, SchemaChange.phase, SchemaChange.rollback_safe
    rows = connection.execute(select(*columns).order_by(SchemaChange.revision))
    later = [Change(row.revision, Phase(row.phase), row.rollback_safe) for row in rows]
    return Status(now, names[-1], [], [change for change in later if change.revision not in names])


def _require_livable(found: Status) -> None:
    deadly = [change.revision for change in found.unknown if not change.rollback_safe]
    if deadly:
        raise Conflict(
            f"The database is at {found.current}. This release knows {found.newest}, and can't work with "
            f"what a newer one has changed in {', '.join(deadly)}.",
            hint="Use the newer release, or restore the database from a backup from before the update.",
        )


def _split(pending: list[Change], phase: Phase | None) -> tuple[list[Change], list[Change]]:
    """What is to run now, and what has to wait."""
    if phase is not Phase.PRE:
        return pending, []
    waits = next((n for n, change in enumerate(pending) if change.phase is Phase.POST), len(pending))
    late = [change.revision for change in pending[waits:] if change.phase is Phase.PRE]
    if late:
        raise Conflict(
            f"Revision {late[0]} must run before the new code, but {pending[waits].revision} comes first and "
            "must wait for the new code of an earlier release.",
            hint="This update skips a release. Update to the release between them first.",
        )
    return pending[:waits], pending[waits:]


def _remember(connection: Connection) -> None:
    """Write down what has run; a revision that stands there stays as it is."""
    now, done = current(connection), []
    for change in changes():
        done.append(
            {"revision": change.revision, "phase": change.phase.value, "rollback_safe": change.rollback_safe}
        )
        if change.revision == now:
            break
    connection.execute(insert(SchemaChange).values(done).on_conflict_do_nothing())


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", "labfleet:db/migrations")
    return config
