from __future__ import annotations

from labfleet.db.grants import DISPATCHER, WEB, statements
from labfleet.db.models import Base

TABLES = {table.name for table in Base.metadata.sorted_tables} | {"alembic_version"}


def test_the_web_role_is_told_about_every_table() -> None:
    assert set(WEB) == TABLES


def test_the_dispatcher_sees_no_tokens_and_of_users_no_secret() -> None:
    assert "tokens" not in DISPATCHER
    assert DISPATCHER["users"].startswith("SELECT (")
    assert "password" not in DISPATCHER["users"]


def test_nobody_deletes_what_happened() -> None:
    for role in (WEB, DISPATCHER):
        assert "DELETE" not in role["events"]
        assert "UPDATE" not in role["events"]
        assert "DELETE" not in role["tasks"]
    assert "DELETE" not in DISPATCHER["jobs"]  # a user may delete his own, through the web


def test_everything_is_revoked_before_anything_is_granted() -> None:
    sql = list(statements("labfleet_web", {"jobs": "SELECT"}))
    assert [line.split()[0] for line in sql] == ["REVOKE", "REVOKE", "GRANT", "GRANT"]
    assert sql[-1] == "GRANT SELECT ON jobs TO labfleet_web"
