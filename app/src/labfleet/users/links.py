"""Links in mails: each is good once and for a while, and says what it is for. Of its key only a hash is kept.

Following one proves that the address is read by whoever follows. No function commits; its caller does.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta
from enum import StrEnum

from sqlalchemy import ColumnElement, and_, delete, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from labfleet.db.models import Link, User
from labfleet.errors import Invalid, LinkOver, UserExists
from labfleet.names import is_address

MAX_KEY = 100
# How long a link that is over is remembered, so that who follows it is told what has become of it.
KEPT = timedelta(days=30)
OPEN = and_(Link.used_at.is_(None), Link.withdrawn_at.is_(None), Link.expires_at > func.clock_timestamp())
"""What can still be followed."""


class Kind(StrEnum):
    """What a link is for."""

    INVITATION = "invitation"
    PASSWORD = "password"  # noqa: S105 - the name of a kind
    ADDRESS = "address"


def check_address(mail: str) -> str:
    """The address, without the space around it; `Invalid` if it is none."""
    mail = mail.strip()
    if not is_address(mail):
        raise Invalid(f"'{mail}' is no mail address.", hint="Write it as ada@example.org.")
    return mail


def owner_of(session: Session, mail: str) -> User | None:
    """Whose address it is."""
    return session.scalars(select(User).where(func.lower(User.mail) == mail.lower())).one_or_none()


def give(session: Session, user: User, mail: str) -> None:
    """Make it the user's address; `UserExists` if the database knows it as somebody else's."""
    try:
        with session.begin_nested():
            user.mail = mail
    except IntegrityError:
        raise UserExists(
            "Another account has this address meanwhile.", hint="Choose another address."
        ) from None


def make(
    session: Session,
    kind: Kind,
    mail: str,
    seconds: float,
    *,
    user: User | None = None,
    name: str | None = None,
    is_admin: bool = False,
    made_by: str = "",
) -> tuple[Link, str]:
    """A new link and its key, which goes into the mail and nowhere else."""
    session.execute(delete(Link).where(Link.expires_at < func.clock_timestamp() - KEPT))
    key = secrets.token_urlsafe(32)
    row = Link(
        kind=kind.value,
        hash=_digest(key),
        user_id=user.id if user else None,
        mail=mail,
        name=name,
        is_admin=is_admin,
        made_by=made_by,
        expires_at=func.clock_timestamp() + timedelta(seconds=seconds),
    )
    session.add(row)
    session.flush()
    return row, key


def renew(session: Session, row: Link, seconds: float) -> str:
    """Another key and a new end for a link; the key that was sent before is good no more."""
    key = secrets.token_urlsafe(32)
    row.hash = _digest(key)
    row.expires_at = func.clock_timestamp() + timedelta(seconds=seconds)
    session.flush()
    return key


def look(session: Session, kind: Kind, key: str, *, lock: bool = False) -> Link:
    """The link with this key. `LinkOver` says what has become of one that is good no more."""
    statement = select(Link).where(Link.kind == kind.value, Link.hash == _digest(key[:MAX_KEY]))
    row = session.scalars(statement.with_for_update() if lock else statement).one_or_none()
    if row is None:
        raise LinkOver("There is no such link: a newer one has been sent, or it is not complete.")
    if row.used_at is not None:
        raise LinkOver("This link has been used already.")
    if row.withdrawn_at is not None:
        raise LinkOver("This link was taken back.")
    if not session.scalar(select(Link.expires_at > func.clock_timestamp()).where(Link.id == row.id)):
        raise LinkOver("The time of this link is over.")
    return row


def use(row: Link) -> None:
    """It has done what it was for."""
    row.used_at = func.clock_timestamp()


def withdraw(session: Session, *which: ColumnElement[bool]) -> None:
    """Take back what could still be followed of these."""
    session.execute(update(Link).where(OPEN, *which).values(withdrawn_at=func.clock_timestamp()))


def of_address(mail: str) -> ColumnElement[bool]:
    """The condition on links to this address."""
    return func.lower(Link.mail) == mail.lower()


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
