"""What an admin decides about accounts. No function commits; its caller does."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from labfleet.db.models import SecondFactor, Token, User
from labfleet.errors import Forbidden, NotFound
from labfleet.users import audit, identities, second_factor, sessions
from labfleet.users.audit import Action
from labfleet.users.service import get_user, set_password

MAX_PAGE = 200


@dataclass(frozen=True)
class Person:
    """An account as an admin sees it."""

    user: User
    second_factor: bool
    tokens: int


@dataclass(frozen=True)
class Page:
    """One page of accounts by name; `next` goes into `after` for the following page, None at the end."""

    items: Sequence[Person]
    next: str | None


def by_id(session: Session, user_id: uuid.UUID) -> User:
    """The account with this id, disabled or not; `NotFound` otherwise."""
    user = session.get(User, user_id)
    if user is None:
        raise NotFound(f"There is no user {user_id}.")
    return user


def page(session: Session, *, text: str | None = None, limit: int = 50, after: str | None = None) -> Page:
    """The accounts by name, those with `text` in name or address or of the group of this name."""
    statement = select(User).order_by(User.name).limit(limit + 1)
    if text:
        statement = statement.where(
            or_(
                *(column.icontains(text, autoescape=True) for column in (User.name, User.mail)),
                User.group_name == text,
            )
        )
    if after is not None:
        statement = statement.where(User.name > after)
    users = session.scalars(statement).all()
    return Page(described(session, users[:limit]), users[limit - 1].name if len(users) > limit else None)


def described(session: Session, users: Iterable[User]) -> list[Person]:
    """Accounts with what they have."""
    rows = list(users)
    ids = [user.id for user in rows]
    with_factor = select(SecondFactor.user_id).where(
        SecondFactor.user_id.in_(ids), SecondFactor.confirmed_at.is_not(None)
    )
    safe = set(session.scalars(with_factor))
    live = or_(Token.expires_at.is_(None), Token.expires_at > func.clock_timestamp())
    count = select(Token.user_id, func.count()).where(
        Token.user_id.in_(ids), Token.revoked_at.is_(None), live
    )
    tokens = dict(iter(session.execute(count.group_by(Token.user_id))))
    return [Person(user, user.id in safe, tokens.get(user.id, 0)) for user in rows]


def set_disabled(session: Session, admin: User | None, name: str, *, disabled: bool) -> User:
    """Let the user in no more, or again: sessions end, tokens are refused, nothing of it begins to run.

    `Forbidden` for an admin's own account, so that there is always one left.
    """
    user = _of_another(session, admin, name)
    if (user.disabled_at is not None) == disabled:
        return user
    user.disabled_at = func.clock_timestamp() if disabled else None
    if disabled:
        sessions.end_all(session, user)
    audit.record(session, Action.USER_DISABLED if disabled else Action.USER_ENABLED, name)
    session.flush()
    session.refresh(user)
    return user


def set_admin(session: Session, admin: User | None, name: str, *, is_admin: bool) -> User:
    """Make the user an admin, or one no more. `Forbidden` for an admin's own account."""
    user = _of_another(session, admin, name)
    if user.is_admin != is_admin:
        user.is_admin = is_admin
        audit.record(session, Action.USER_PROMOTED if is_admin else Action.USER_DEMOTED, name)
        session.flush()
    return user


def reset_password(session: Session, name: str, password: str) -> None:
    """Give the user a password, which ends all of its sessions. Raises `Invalid`."""
    set_password(session, get_user(session, name), password)
    audit.record(session, Action.PASSWORD_RESET, name)


def reset_second_factor(session: Session, name: str) -> bool:
    """Switch off the second factor of a user who has lost it; whether it was on."""
    return second_factor.remove(session, get_user(session, name))


def unlink(session: Session, admin: User | None, name: str, identity_id: uuid.UUID) -> None:
    """Let a provider open the user's account no more, which ends all of its sessions.

    A right that the provider gave goes with it. `Forbidden` for an admin's own account, `NotFound`.
    """
    identities.take_away(session, _of_another(session, admin, name), identity_id)


def _of_another(session: Session, admin: User | None, name: str) -> User:
    user = get_user(session, name)
    if admin is not None and user.id == admin.id:
        raise Forbidden("An admin does not take this from himself.", hint="Ask another admin to do it.")
    return user
