from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session, sessionmaker

from labfleet.db.models import Token, User
from labfleet.errors import Invalid, NotFound, Unauthorized, UserExists
from labfleet.users import service

Sessions = sessionmaker[Session]
PASSWORD = "correct horse battery"


@pytest.fixture
def account(sessions: Sessions) -> User:
    with sessions.begin() as session:
        return service.add_user(session, "grace", PASSWORD, is_admin=True)


def test_the_password_opens_and_is_nowhere_kept(sessions: Sessions, account: User) -> None:
    with sessions.begin() as session:
        found = service.authenticate(session, "grace", PASSWORD)
    assert found.id == account.id
    assert found.is_admin
    assert found.password_hash.startswith("$argon2id$")
    assert PASSWORD not in found.password_hash


@pytest.mark.parametrize(
    ("name", "password"), [("grace", "wrong"), ("nobody", PASSWORD), ("grace", ""), ("grace", "x" * 2000)]
)
def test_a_wrong_name_and_a_wrong_password_read_the_same(
    sessions: Sessions, account: User, name: str, password: str
) -> None:
    with sessions() as session, pytest.raises(Unauthorized) as caught:
        service.authenticate(session, name, password)
    assert caught.value.detail == "The name or the password is wrong."


def test_a_disabled_account_opens_nothing(sessions: Sessions, account: User) -> None:
    with sessions.begin() as session:
        plain = service.issue_token(session, account)
        session.execute(update(User).values(disabled_at=func.clock_timestamp()))
    with sessions() as session:
        with pytest.raises(Unauthorized):
            service.authenticate(session, "grace", PASSWORD)
        with pytest.raises(Unauthorized):
            service.resolve_token(session, plain)


def test_a_name_is_taken_once(sessions: Sessions, account: User) -> None:
    with sessions.begin() as session, pytest.raises(UserExists, match="grace"):
        service.add_user(session, "grace", PASSWORD)
    with sessions() as session:
        assert [user.name for user in service.list_users(session)] == ["grace"]
        assert service.get_user(session, "grace").id == account.id
        with pytest.raises(NotFound, match="nobody"):
            service.get_user(session, "nobody")


@pytest.mark.parametrize(
    ("name", "password"),
    [("", PASSWORD), (" a", PASSWORD), ("a\n", PASSWORD), ("a" * 101, PASSWORD), ("a", "short")],
)
def test_a_name_or_password_that_will_not_do_is_refused(sessions: Sessions, name: str, password: str) -> None:
    with sessions() as session, pytest.raises(Invalid):
        service.add_user(session, name, password)


def test_a_token_names_its_user_and_only_its_hash_is_kept(sessions: Sessions, account: User) -> None:
    with sessions.begin() as session:
        plain = service.issue_token(session, account, "laptop")
        assert service.resolve_token(session, plain).user.id == account.id
        row = session.scalars(select(Token)).one()
    assert plain.startswith("lf_")
    assert len(plain) > 40
    assert plain not in {row.hash, row.name}


def test_the_last_use_is_written_at_most_once_a_minute(sessions: Sessions, account: User) -> None:
    def used() -> object:
        with sessions.begin() as session:
            service.resolve_token(session, plain)
        with sessions() as session:
            return session.scalars(select(Token.last_used_at)).one()

    with sessions.begin() as session:
        plain = service.issue_token(session, account)
    first = used()
    assert first is not None
    assert used() == first
    with sessions.begin() as session:
        session.execute(update(Token).values(last_used_at=Token.last_used_at - timedelta(seconds=61)))
    assert used() != first


def test_a_revoked_expired_or_unknown_token_is_refused(sessions: Sessions, account: User) -> None:
    with sessions.begin() as session:
        kept, one, two = (service.issue_token(session, account, name) for name in ("keep", "a", "b"))
        expired = service.issue_token(session, account, "old", days=-1)
        fresh = service.issue_token(session, account, "new", days=1)
        assert service.revoke_token(session, account, "a") == 1
        assert service.revoke_token(session, account, "a") == 0
        service.revoke_this_token(session, two)
        for plain in (one, two, expired, "lf_unknown", ""):
            with pytest.raises(Unauthorized):
                service.resolve_token(session, plain)
        for plain in (kept, fresh):
            assert service.resolve_token(session, plain).user.name == "grace"
        assert service.revoke_token(session, account) == 3
        with pytest.raises(Unauthorized):
            service.resolve_token(session, kept)
