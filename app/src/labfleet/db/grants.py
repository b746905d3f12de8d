"""Who may do what in the database. Applied after each migration, so that a new table can't be forgotten.

Each role gets exactly what stands here: everything else is revoked. While an update is under way nothing is
revoked, for the old code runs beside the new. What a release has no more use for therefore stays here until
the release after it: a rollback needs it.
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
    "groups": ALL,
    "reservations": ALL,
    "turns": READ,
    "tokens": CHANGE,
    "sessions": ALL,
    "identities": ALL,
    "second_factors": ALL,
    "recovery_codes": ALL,
    "audit": ADD,
    "protocols": ALL,
    "protocol_versions": ALL,
    "protocol_shares": ALL,
    "self_tests": CHANGE,
    "blobs": ALL,
    "datasets": ALL,
    "dataset_shares": ALL,
    "previews": CHANGE,
    "sources": ALL,
    "source_shares": ALL,
    "source_credentials": ALL,
    "source_handlers": ALL,
    "fetches": ALL,
    "jobs": ALL,
    "job_shares": ALL,
    "nodes": CHANGE,
    "tasks": CHANGE,
    "attempts": CHANGE,
    "events": ADD,
    "outbox": "SELECT, INSERT, DELETE",
    "artifacts": CHANGE,
    "deliveries": ADD,
    # They may have one-time links in them: no other role reads them.
    "mails": ALL,
    "notices": ALL,
    "links": ALL,
    "workers": ALL,
    "joins": ALL,
    "fleet_samples": READ,
    "analyses": "SELECT, INSERT, DELETE",
    "alembic_version": READ,
    "schema_changes": READ,
}

DISPATCHER: Mapping[str, str] = {
    # What order needs of a user, and nothing that would help to become one.
    "users": "SELECT (id, name, group_name, weight, max_running, max_cores, job_mails, disabled_at)",
    "groups": READ,
    "reservations": READ,
    "turns": CHANGE,
    "workers": READ,
    "datasets": "SELECT (id, name, media_type, sha256, size)",
    "previews": "SELECT, UPDATE",
    "jobs": "SELECT, UPDATE",
    "nodes": "SELECT, UPDATE",
    "tasks": "SELECT, UPDATE",
    "attempts": CHANGE,
    "events": ADD,
    "outbox": ALL,
    "artifacts": ADD,
    "deliveries": CHANGE,
    "notices": ALL,
    "fleet_samples": "SELECT, INSERT, DELETE",
    "alembic_version": READ,
    "schema_changes": READ,
}

ROLES: Mapping[str, Mapping[str, str]] = {"labfleet_web": WEB, "labfleet_dispatcher": DISPATCHER}


def apply_grants(connection: Connection, *, withdraw: bool = True) -> list[str]:
    """Give each role that exists what stands above, with `withdraw` nothing else; tell these roles."""
    existing = set(connection.scalars(text("SELECT rolname FROM pg_roles")))
    granted = [role for role in ROLES if role in existing]
    for role in granted:
        for statement in statements(role, ROLES[role], withdraw=withdraw):
            connection.execute(text(statement))
    return granted


def statements(role: str, tables: Mapping[str, str], *, withdraw: bool = True) -> Iterator[str]:
    """The SQL for one role. The names are constants of this module, never input."""
    if withdraw:
        yield f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {role}"
        yield f"REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM {role}"
    yield f"GRANT USAGE ON SCHEMA public TO {role}"
    for table, privileges in tables.items():
        yield f"GRANT {privileges} ON {table} TO {role}"
