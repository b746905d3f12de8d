"""Sessions of browsers: a row each, so that they can be listed and ended.

The cookie holds a random key of which only the SHA-256 is kept here. A session that has not been used for
`hours` is over. No function commits; its caller does.
"""

from __future__ import annotations

import hashlib
import secrets
import uuid
from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import ColumnElement, delete, func, or_, select, update
from sqlalchemy.orm import Session

from labfleet.db.models import User, WebSession
from labfleet.errors import NotFound
from labfleet.users import audit
from labfleet.users.audit import Action
from labfleet.users.devices import device

# Writing last_seen_at at every request would make each read a write.
SEEN_EVERY = timedelta(minutes=1)
MAX_AGENT = 500


def begin(
    session: Session, user: User, *, address: str, agent: str, hours: float, by_provider: bool = False
) -> str:
    """Open a session for the user; its key, which is shown to the browser only.

    Sessions of everybody that are over are removed on the way.
    """
    session.execute(delete(WebSession).where(~_live(hours)))
    plain = secrets.token_urlsafe(32)
    row = WebSession(user_id=user.id, hash=_digest(plain), address=address, agent=agent[:MAX_AGENT])
    row.by_provider = by_provider
    session.add(row)
    how = {"by": "single sign-on"} if by_provider else {}
    audit.record(session, Action.SESSION_BEGUN, user.name, browser=device(agent), **how)
    session.flush()
    return plain


def resolve(session: Session, plain: str, *, address: str, hours: float) -> WebSession | None:
    """The session with this key, its user at hand; None if it has ended or its user is disabled."""
    statement = (
        select(WebSession)
        .join(WebSession.user)
        .where(WebSession.hash == _digest(plain), _live(hours), User.disabled_at.is_(None))
    )
    found = session.scalars(statement).one_or_none()
    if found is not None:
        _touch(session, found, address)
    return found


def live(session: Session, user: User, hours: float) -> Sequence[WebSession]:
    """The user's sessions, the one that was used last first."""
    statement = select(WebSession).where(WebSession.user_id == user.id, _live(hours))
    return session.scalars(statement.order_by(WebSession.last_seen_at.desc(), WebSession.id)).all()


def is_young(session: Session, which: uuid.UUID, seconds: float) -> bool:
    """Whether the session began within the last so many seconds."""
    young = WebSession.created_at > func.clock_timestamp() - timedelta(seconds=seconds)
    return session.scalar(select(WebSession.id).where(WebSession.id == which, young)) is not None


def end(session: Session, plain: str) -> None:
    """End the session with this key (sign out); an unknown one is no error."""
    found = session.scalars(select(WebSession).where(WebSession.hash == _digest(plain))).one_or_none()
    if found is not None:
        end_one(session, found.user, found.id)


def end_one(session: Session, user: User, session_id: uuid.UUID) -> None:
    """End one of the user's sessions; `NotFound` if there is no such one of theirs."""
    mine = delete(WebSession).where(WebSession.id == session_id, WebSession.user_id == user.id)
    if session.scalar(mine.returning(WebSession.id)) is None:
        raise NotFound(f"You have no session {session_id}.", hint="It may have ended already.")
    audit.record(session, Action.SESSION_ENDED, user.name, sessions=1)


def end_all(session: Session, user: User, *, but: uuid.UUID | None = None) -> int:
    """End all sessions of the user, except one if it is named; how many they were."""
    statement = delete(WebSession).where(WebSession.user_id == user.id)
    if but is not None:
        statement = statement.where(WebSession.id != but)
    ended = len(session.scalars(statement.returning(WebSession.id)).all())
    if ended:
        audit.record(session, Action.SESSION_ENDED, user.name, sessions=ended)
    return ended


def _live(hours: float) -> ColumnElement[bool]:
    return WebSession.last_seen_at > func.clock_timestamp() - timedelta(hours=hours)


def _touch(session: Session, row: WebSession, address: str) -> None:
    stale = or_(WebSession.last_seen_at < func.clock_timestamp() - SEEN_EVERY, WebSession.address != address)
    session.execute(
        update(WebSession)
        .where(WebSession.id == row.id, stale)
        .values(last_seen_at=func.clock_timestamp(), address=address),
        execution_options={"synchronize_session": False},
    )


def _digest(plain: str) -> str:
    return hashlib.sha256(plain.encode()).hexdigest()
