"""A forgotten password, and the address that mails for it go to. No function commits; its caller does."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from labfleet.db.models import Link, User
from labfleet.errors import LinkOver
from labfleet.mail import outbox, texts
from labfleet.mail.outbox import Post
from labfleet.users import audit, links
from labfleet.users import service as users
from labfleet.users.audit import Action
from labfleet.users.links import Kind

# The key is in the query, which no log of requests has.
PASSWORD_PATH = "/password?key="  # noqa: S105 - an address
ADDRESS_PATH = "/address?key="


def forgotten(session: Session, post: Post, who: str) -> None:
    """Send a link to the account of this name or address, if it may sign in, by a password, and its address
    is known.

    Nothing tells the caller which. An account is sent only so many mails at a time. Raises `MailOff`.
    """
    post.need()
    who = who.strip()
    named = or_(User.name == who, func.lower(User.mail) == who.lower())
    # Who signs in by a provider is let in by that one alone: a mail is no way past it.
    good = User.mail.is_not(None), User.disabled_at.is_(None), User.password_hash != users.NO_PASSWORD
    statement = select(User).where(named, *good)
    for user in session.scalars(statement.with_for_update()).all():
        _send_reset(session, post, user)


def _send_reset(session: Session, post: Post, user: User) -> None:
    seconds = post.section.reset_minutes * 60
    recent = Link.created_at > func.clock_timestamp() - timedelta(seconds=seconds)
    count = select(func.count()).where(Link.user_id == user.id, Link.kind == Kind.PASSWORD.value, recent)
    if (session.scalar(count) or 0) >= post.section.reset_mails or user.mail is None:
        return
    _, key = links.make(session, Kind.PASSWORD, user.mail, seconds, user=user)
    said = texts.password(post.site, user.name, post.address(PASSWORD_PATH + key), seconds)
    outbox.write(session, outbox.Kind.PASSWORD, user.mail, said, user=user)
    audit.record(session, Action.PASSWORD_FORGOTTEN, user.name)


def look(session: Session, key: str) -> User:
    """Whose password the link with this key changes. `LinkOver` if it is good no more."""
    return _user(session, links.look(session, Kind.PASSWORD, key))


def reset(session: Session, post: Post, key: str, password: str) -> User:
    """Change the password, which ends all sessions; the second factor is asked for as ever.

    Raises `LinkOver` or `Invalid`.
    """
    row = links.look(session, Kind.PASSWORD, key, lock=True)
    user = users.set_password(session, _user(session, row), password)
    links.use(row)
    links.withdraw(session, Link.user_id == user.id, Link.kind == Kind.PASSWORD.value, Link.id != row.id)
    audit.record(session, Action.PASSWORD_RECOVERED, user.name)
    tell_changed(session, post, user)
    session.flush()
    return user


def tell_changed(session: Session, post: Post, user: User) -> None:
    """Tell the user by mail that the password was changed, where that is possible."""
    if post.on and user.mail is not None:
        said = texts.password_changed(post.site, user.name)
        outbox.write(session, outbox.Kind.PASSWORD_CHANGED, user.mail, said, user=user)


def ask_address(session: Session, post: Post, user: User, mail: str) -> str:
    """Send a link to what is to be the user's address; it counts when that is followed.

    Somebody else's address is answered alike, and is sent nothing. Raises `MailOff` or `Invalid`.
    """
    post.need()
    mail = links.check_address(mail)
    mine = Link.user_id == user.id, Link.kind == Kind.ADDRESS.value
    links.withdraw(session, *mine)
    seconds = post.section.address_hours * 3600
    _, key = links.make(session, Kind.ADDRESS, mail, seconds, user=user)
    if links.owner_of(session, mail) is None:
        said = texts.address(post.site, user.name, post.address(ADDRESS_PATH + key), seconds)
        outbox.write(session, outbox.Kind.ADDRESS, mail, said, user=user)
    return mail


def asked_address(session: Session, user: User) -> str | None:
    """The address that waits for its link to be followed."""
    statement = select(Link.mail).where(Link.user_id == user.id, Link.kind == Kind.ADDRESS.value, links.OPEN)
    return session.scalars(statement.order_by(Link.created_at.desc()).limit(1)).one_or_none()


def look_address(session: Session, key: str) -> tuple[User, str]:
    """Whose address the link with this key confirms, and the address. `LinkOver` if it is good no more."""
    row = links.look(session, Kind.ADDRESS, key)
    return _user(session, row), row.mail


def confirm_address(session: Session, post: Post, key: str) -> User:
    """Make it the user's address, and tell the one before. Raises `LinkOver` or `UserExists`."""
    row = links.look(session, Kind.ADDRESS, key, lock=True)
    user = _user(session, row)
    before = user.mail
    links.give(session, user, row.mail)
    links.use(row)
    # What was sent to the address of before opens nothing any more.
    links.withdraw(session, Link.user_id == user.id, Link.kind == Kind.PASSWORD.value)
    audit.record(session, Action.ADDRESS_CHANGED, user.name, address=row.mail)
    if post.on and before is not None and before.lower() != row.mail.lower():
        said = texts.address_changed(post.site, user.name, row.mail)
        outbox.write(session, outbox.Kind.ADDRESS_CHANGED, before, said, user=user)
    session.flush()
    return user


def _user(session: Session, row: Link) -> User:
    user = session.get(User, row.user_id)
    if user is None or user.disabled_at is not None:
        raise LinkOver("The account of this link may not sign in.", hint="Ask an admin of this Labfleet.")
    return user
