"""Accounts and API tokens. Passwords are argon2id hashes; of a token only the SHA-256 is kept."""

from __future__ import annotations

import hashlib
import secrets
import uuid
from collections.abc import Iterable, Sequence
from datetime import timedelta
from functools import cache
from typing import Any

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from labfleet.db.models import Token, User
from labfleet.errors import Invalid, NotFound, Unauthorized, UserExists
from labfleet.users import audit, sessions
from labfleet.users.audit import Action
from labfleet.users.scopes import chosen

TOKEN_PREFIX = "lf_"  # noqa: S105 - a prefix, not a secret
MIN_PASSWORD = 12
MAX_PASSWORD = 1024
MAX_NAME = 100
# What stands in place of a hash, and which no password matches.
NO_PASSWORD = "!"  # noqa: S105 - the absence of one
# Writing last_used_at at every request would make each read a write.
USED_EVERY = timedelta(minutes=1)


def add_user(session: Session, name: str, password: str, *, is_admin: bool = False) -> User:
    """Make an account. Raises `UserExists`, or `Invalid` for a name or password that won't do."""
    _check_password(password)
    return _add(session, name, _hasher().hash(password), is_admin=is_admin)


def add_without_password(session: Session, name: str, provider: str) -> User:
    """Make an account that is opened by a provider of sign-ins only. Raises `UserExists` or `Invalid`."""
    return _add(session, name, NO_PASSWORD, is_admin=False, by=provider)


def has_password(user: User) -> bool:
    """Whether the user can sign in by a password at all."""
    return user.password_hash != NO_PASSWORD


def _add(session: Session, name: str, password_hash: str, *, is_admin: bool, **detail: str) -> User:
    check_name(name)
    values = {"name": name, "password_hash": password_hash, "is_admin": is_admin}
    statement = insert(User).values(values).on_conflict_do_nothing(index_elements=[User.name])
    user = session.scalars(statement.returning(User)).one_or_none()
    if user is None:
        raise UserExists(f"There is a user '{name}' already.")
    audit.record(session, Action.USER_MADE, name, is_admin=is_admin, **detail)
    return user


def list_users(session: Session) -> Sequence[User]:
    """All accounts, by name."""
    return session.scalars(select(User).order_by(User.name)).all()


def get_user(session: Session, name: str) -> User:
    """The account of this name; `NotFound` with a hint otherwise."""
    user = session.scalars(select(User).where(User.name == name)).one_or_none()
    if user is None:
        raise NotFound(f"There is no user '{name}'.", hint="'labfleet user list' lists the users.")
    return user


def find_user(session: Session, user_id: uuid.UUID) -> User | None:
    """The account with this id if it may still sign in."""
    return session.scalars(select(User).where(User.id == user_id, User.disabled_at.is_(None))).one_or_none()


def find_name(session: Session, name: str) -> User | None:
    """The account of this name, if there is one."""
    return session.scalars(select(User).where(User.name == name)).one_or_none()


def authenticate(session: Session, name: str, password: str) -> User:
    """The user of this name and password; `Unauthorized` otherwise, after the same time for every reason."""
    user = session.scalars(select(User).where(User.name == name)).one_or_none()
    stored = user.password_hash if user and has_password(user) else _decoy()
    good = len(password) <= MAX_PASSWORD and _matches(stored, password)
    if user is None or not good or user.disabled_at is not None:
        raise Unauthorized("The name or the password is wrong.", hint="Check both and try again.")
    if _hasher().check_needs_rehash(stored):
        user.password_hash = _hasher().hash(password)
    return user


def refused(session: Session, name: str) -> None:
    """Write down that somebody gave a wrong password for `name`, if there is such a user.

    What is no name of a user is not kept: it may be a password in the wrong field.
    """
    if session.scalar(select(User.id).where(User.name == name)) is not None:
        audit.record(session, Action.SIGN_IN_FAILED, name)


def issue_token(
    session: Session,
    user: User,
    name: str = "",
    *,
    days: float | None = None,
    wanted: Iterable[str] | None = None,
    maker: Token | None = None,
) -> str:
    """A new token's plain text, which is shown once and never kept; it expires after `days`, if given.

    It may do what is `wanted`, without that all that the user may. One that another token makes (`maker`)
    may do no more, and is good no longer, than that. Raises `Invalid` or `ScopeMissing`.
    """
    scopes = [scope.value for scope in chosen(user, wanted, maker)]
    plain = TOKEN_PREFIX + secrets.token_urlsafe(32)
    ends: list[Any] = [func.clock_timestamp() + timedelta(days=days)] if days else []
    ends += [maker.expires_at] if maker and maker.expires_at else []
    expires = func.least(*ends) if ends else None
    session.add(Token(user_id=user.id, name=name, hash=_digest(plain), scopes=scopes, expires_at=expires))
    audit.record(session, Action.TOKEN_MADE, user.name, name=name, days=days, scopes=scopes)
    session.flush()
    return plain


def resolve_token(session: Session, plain: str) -> Token:
    """The token with its user; `Unauthorized` if it is unknown, revoked, expired, or its user disabled.

    The look-up is by the hash of a 256-bit random value, so its time tells nothing of use.
    """
    live = or_(Token.expires_at.is_(None), Token.expires_at > func.clock_timestamp())
    statement = (
        select(Token)
        .join(Token.user)
        .where(Token.hash == _digest(plain), Token.revoked_at.is_(None), live, User.disabled_at.is_(None))
    )
    token = session.scalars(statement).one_or_none()
    if token is None:
        raise Unauthorized(
            "The token is unknown, expired or revoked.", hint="'labfleet login' gets a new one."
        )
    _touch(session, token)
    return token


def revoke_token(session: Session, user: User, name: str | None = None) -> int:
    """Revoke the user's live tokens of this name (all for None); how many they were."""
    statement = update(Token).where(Token.user_id == user.id, Token.revoked_at.is_(None))
    if name is not None:
        statement = statement.where(Token.name == name)
    result = session.scalars(statement.values(revoked_at=func.clock_timestamp()).returning(Token.name)).all()
    if result:
        audit.record(session, Action.TOKEN_REVOKED, user.name, names=sorted(result))
    return len(result)


def live_tokens(session: Session, user: User) -> Sequence[Token]:
    """The user's tokens that are still good, the newest first."""
    live = or_(Token.expires_at.is_(None), Token.expires_at > func.clock_timestamp())
    statement = select(Token).where(Token.user_id == user.id, Token.revoked_at.is_(None), live)
    return session.scalars(statement.order_by(Token.created_at.desc(), Token.id)).all()


def revoke_one_token(session: Session, user: User, token_id: uuid.UUID) -> None:
    """Revoke one of the user's tokens; `NotFound` if it isn't theirs. Once more is harmless."""
    token = session.get(Token, token_id, with_for_update={"of": Token}, populate_existing=True)
    if token is None or token.user_id != user.id:
        raise NotFound(f"There is no token {token_id}.")
    if token.revoked_at is None:
        token.revoked_at = func.clock_timestamp()
        audit.record(session, Action.TOKEN_REVOKED, user.name, names=[token.name])
        session.flush()


def change_password(session: Session, user: User, password: str) -> User:
    """Give the user the password that he chose, which ends all sessions; tokens stay. Raises `Invalid`."""
    changed = set_password(session, user, password)
    audit.record(session, Action.PASSWORD_CHANGED, user.name)
    return changed


def set_password(session: Session, user: User, password: str) -> User:
    """What whoever gives a password to a user has in common; that writes who it was."""
    _check_password(password)
    changed = session.get_one(User, user.id, with_for_update=True)
    changed.password_hash = _hasher().hash(password)
    sessions.end_all(session, changed)
    session.flush()
    return changed


def revoke_this_token(session: Session, plain: str) -> None:
    """Revoke one token by its plain text (sign out); an unknown one is no error."""
    session.execute(
        update(Token).where(Token.hash == _digest(plain)).values(revoked_at=func.clock_timestamp())
    )


def _touch(session: Session, token: Token) -> None:
    stale = or_(Token.last_used_at.is_(None), Token.last_used_at < func.clock_timestamp() - USED_EVERY)
    session.execute(
        update(Token).where(Token.id == token.id, stale).values(last_used_at=func.clock_timestamp()),
        execution_options={"synchronize_session": False},
    )


def check_name(name: str) -> None:
    """Raise `Invalid` for what can't be a user's name."""
    if not 0 < len(name) <= MAX_NAME or name != name.strip() or not name.isprintable():
        raise Invalid(f"A user's name has 1 to {MAX_NAME} printable characters, no space around them.")


def _check_password(password: str) -> None:
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise Invalid(f"A password has {MIN_PASSWORD} to {MAX_PASSWORD} characters.")


def _matches(stored: str, password: str) -> bool:
    try:
        return _hasher().verify(stored, password)
    except (VerificationError, InvalidHashError):
        return False


def _digest(plain: str) -> str:
    return hashlib.sha256(plain.encode()).hexdigest()


@cache
def _hasher() -> PasswordHasher:
    return PasswordHasher()


@cache
def _decoy() -> str:
    # An unknown name, and one without a password, costs as much time as a known one.
    return _hasher().hash(secrets.token_urlsafe(16))
