"""Who may do what in the database. Applied after each migration, so that a new table can't be forgotten.

Each role gets exactly what stands here: everything is revoked first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sqlalchemy import Connection, text

READ = "SELECT"
ADD = "SELECT, INSERT"
CHANGE = "SELECT, INSERT, UPDATE"
ALL = "SELECT, INSERT, UPDATE, DELETE"

WEB: Mapping[str, str] = {
    "users": CHANGE,
    "tokens": CHANGE,
    "protocols": CHANGE,
    "protocol_versions": CHANGE,
    "blobs": ADD,
    "datasets": ADD,
    "jobs": CHANGE,
    "tasks": CHANGE,
    "attempts": CHANGE,
    "events": ADD,
    "outbox": ADD,
    "artifacts": CHANGE,
    "workers": ALL,
    "alembic_version": READ,
}

DISPATCHER: Mapping[str, str] = {
    "jobs": "SELECT, UPDATE",
    "tasks": "SELECT, UPDATE",
    "attempts": "SELECT, UPDATE",
    "events": ADD,
    "outbox": ALL,
    "alembic_version": READ,
}

ROLES: Mapping[str, Mapping[str, str]] = {"labfleet_web": WEB, "labfleet_dispatcher": DISPATCHER}


def apply_grants(connection: Connection) -> list[str]:
    """Give each role that exists what stands above; the names of those roles."""
    existing = set(connection.scalars(text("SELECT rolname FROM pg_roles")))
    granted = [role for role in ROLES if role in existing]
    for role in granted:
        for statement in statements(role, ROLES[role]):
            connection.execute(text(statement))
    return granted


def statements(role: str, tables: Mapping[str, str]) -> Iterator[str]:
    """The SQL for one role. The names are constants of this module, never input."""
    yield f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {role}"
    yield f"REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM {role}"
    yield f"GRANT USAGE ON SCHEMA public TO {role}"
    for table, privileges in tables.items():
        yield f"GRANT {privileges} ON {table} TO {role}"
