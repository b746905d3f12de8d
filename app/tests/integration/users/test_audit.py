"""The audit log: written with what it tells of, in one transaction, and without secrets."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from labfleet.config import OrderSection
from labfleet.db.models import AuditRow, User
from labfleet.errors import Forbidden, Invalid, NotFound
from labfleet.jobs import fleet, quotas
from labfleet.users import audit, people, second_factor, service
from labfleet.users import sessions as browser_sessions
from labfleet.users.audit import Actor

Sessions = sessionmaker[Session]
PASSWORD = "correct horse battery"


@pytest.fixture(autouse=True)
def _as_admin(admin: User) -> Iterator[None]:
    audit.acting(Actor("page", admin, address="192.0.2.9"))
    yield
    audit.acting(Actor("labfleet", name="labfleet"))


def log(sessions: Sessions) -> list[tuple[str, str]]:
    with sessions() as db:
        return [(row.action, row.subject) for row in db.scalars(select(AuditRow).order_by(AuditRow.id))]


def test_what_admins_do_is_told(
    sessions: Sessions, user: User, admin: User, make_worker: Callable[..., str]
) -> None:
    make_worker("w1")
    with sessions.begin() as db:
        service.add_user(db, "grace", PASSWORD)
        people.set_admin(db, admin, "grace", is_admin=True)
        people.set_disabled(db, admin, "grace", disabled=True)
        people.set_disabled(db, admin, "grace", disabled=True)  # once more changes nothing
        people.set_disabled(db, admin, "grace", disabled=False)
        people.reset_password(db, "grace", "another correct horse")
        quotas.put_group(db, "lab", {"max_running": 3})
        quotas.set_user(db, "ada", {"group": "lab"})
        quotas.delete_group(db, "lab")
        fleet.drain(db, "w1", draining=True)
        fleet.reserve(db, "r", 2)
        fleet.unreserve(db, "r")
    assert log(sessions) == [
        ("user.made", "grace"),
        ("user.promoted", "grace"),
        ("user.disabled", "grace"),
        ("user.enabled", "grace"),
        ("password.reset", "grace"),
        ("group.changed", "lab"),
        ("quota.changed", "ada"),
        ("group.deleted", "lab"),
        ("worker.drained", "w1"),
        ("reservation.changed", "r"),
        ("reservation.deleted", "r"),
    ]
    with sessions() as db:
        rows = db.scalars(select(AuditRow)).all()
        assert {(row.actor, row.actor_id, row.via, row.address) for row in rows} == {
            ("root", admin.id, "page", "192.0.2.9")
        }


def test_what_did_not_happen_is_not_told(sessions: Sessions, user: User, admin: User) -> None:
    with pytest.raises(RuntimeError), sessions.begin() as db:
        people.set_admin(db, admin, "ada", is_admin=True)
        raise RuntimeError
    for wrong, error in (
        (lambda db: people.reset_password(db, "ada", "short"), Invalid),
        (lambda db: people.set_disabled(db, admin, "root", disabled=True), Forbidden),
        (lambda db: people.set_admin(db, admin, "root", is_admin=False), Forbidden),
        (lambda db: people.set_admin(db, admin, "nobody", is_admin=True), NotFound),
        (lambda db: fleet.remove(db, "nobody", OrderSection()), NotFound),
    ):
        with sessions.begin() as db, pytest.raises(error):
            wrong(db)
    assert log(sessions) == []


def test_no_secret_is_in_it(sessions: Sessions, user: User) -> None:
    with sessions.begin() as db:
        service.change_password(db, user, PASSWORD)
        token = service.issue_token(db, user, "mine", days=3)
        key = browser_sessions.begin(db, user, address="::1", agent="Firefox/1 (Linux)", hours=1)
        sealer = second_factor.box(["any"])
        second_factor.prepare(db, user, sealer)
        setup = second_factor.prepared(db, user, sealer, "x")
        assert setup is not None
        service.refused(db, "ada")
        service.refused(db, PASSWORD)  # typed into the wrong field
        service.revoke_token(db, user)
    with sessions() as db:
        rows = db.scalars(select(AuditRow).order_by(AuditRow.id)).all()
        told = " ".join(str((row.actor, row.subject, row.detail)) for row in rows)
    assert not any(one in told for one in (PASSWORD, token, key, setup.secret))
    assert [row.action for row in rows] == [
        "password.changed",
        "token.made",
        "session.begun",
        "session.refused",
        "token.revoked",
    ]
    scopes = ["read", "jobs", "data", "protocols", "account"]
    assert rows[1].detail == {"name": "mine", "days": 3, "scopes": scopes}
    assert rows[2].detail == {"browser": "Firefox on Linux"}


def test_it_is_read_page_by_page_and_filtered(
    sessions: Sessions, user: User, make_user: Callable[..., User]
) -> None:
    make_user("eve")
    with sessions.begin() as db:
        for number in range(5):
            quotas.set_user(db, "ada", {"max_running": number + 1})
        quotas.set_user(db, "eve", {"max_running": 1})
        service.issue_token(db, user)
    with sessions() as db:
        first = audit.entries(db, user="ada", limit=4)
        rest = audit.entries(db, user="ada", limit=4, after=first.next)
        assert [row.action for row in first.items] == ["token.made", *["quota.changed"] * 3]
        assert [row.detail["max_running"] for row in rest.items] == [2, 1] and rest.next is None
        assert [row.subject for row in audit.entries(db, kind="token").items] == ["ada"]
        assert len(audit.entries(db, kind="quota.changed").items) == 6
        assert audit.entries(db, kind="quo").items == audit.entries(db, kind="%").items == []
        assert len(audit.entries(db, user="root").items) == 7
