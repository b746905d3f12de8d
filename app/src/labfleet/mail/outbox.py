"""Mails that are to be sent: written in the transaction of what causes them, carried by the mailer.

What stands here is without a server: whether there is one, a row for each mail, and how they went. The text
of a mail may have a one-time link, so nobody but the mailer reads it, and it is forgotten once it is sent.
No function commits; its caller does.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from labfleet.config import MailSection
from labfleet.db.models import Mail, User
from labfleet.errors import MailOff, NotFound

CHANNEL = "labfleet_mails"
MAX_PAGE = 200
OPEN = (Mail.sent_at.is_(None), Mail.given_up_at.is_(None))
"""What is neither sent nor given up."""


class Kind(StrEnum):
    """What a mail is for."""

    TEST = "test"
    INVITATION = "invitation"
    PASSWORD = "password"  # noqa: S105 - the name of a kind
    PASSWORD_CHANGED = "password changed"  # noqa: S105 - the name of a kind
    ADDRESS = "address"
    ADDRESS_CHANGED = "address changed"
    JOB = "job"
    JOBS = "jobs"


@dataclass(frozen=True)
class Text:
    """What somebody reads. `seconds`: how long it is worth sending, None for ever."""

    subject: str
    body: str
    seconds: float | None = None


@dataclass(frozen=True)
class Tally:
    """How mails go: how many wait and since when, how many of the last day were given up, the last error."""

    waiting: int
    late_seconds: float
    given_up: int
    error: str | None


@dataclass(frozen=True)
class Post:
    """Whether mails can be sent, and what site they speak of."""

    section: MailSection
    site: str

    @property
    def on(self) -> bool:
        """Whether there is a server for mails."""
        return bool(self.section.host)

    def need(self) -> None:
        """Raise `MailOff` where no mail can be sent."""
        need(self.section)

    def address(self, path: str) -> str:
        """The address of a page of this site."""
        return f"{self.site.rstrip('/')}{path}"


def need(section: MailSection) -> None:
    """Raise `MailOff` where no mail can be sent."""
    if not section.host:
        raise MailOff("The admin of this Labfleet has not set mail up, so none can be sent.")


def write(session: Session, kind: Kind, to: str, mail: Text, *, user: User | None = None) -> Mail:
    """Have this sent to an address; the mailer wakes when the transaction commits."""
    ends = None if mail.seconds is None else func.clock_timestamp() + timedelta(seconds=mail.seconds)
    row = Mail(
        kind=kind.value,
        user_id=user.id if user else None,
        recipient=to,
        subject=mail.subject,
        body=mail.body,
        expires_at=ends,
    )
    session.add(row)
    session.flush()
    session.execute(text("SELECT pg_notify(:channel, '')"), {"channel": CHANNEL})
    return row


def get(session: Session, mail_id: uuid.UUID) -> Mail:
    """The mail of this id; `NotFound` otherwise."""
    row = session.get(Mail, mail_id)
    if row is None:
        raise NotFound(f"There is no mail {mail_id}.")
    return row


def latest(session: Session, *, waiting: bool = False, limit: int = 50) -> Sequence[Mail]:
    """The mails that were written last, the newest first; with `waiting` only those that are not sent yet."""
    statement = select(Mail).order_by(Mail.created_at.desc(), Mail.id).limit(min(limit, MAX_PAGE))
    return session.scalars(statement.where(*OPEN) if waiting else statement).all()


def tally(session: Session) -> Tally:
    """How mails go."""
    late = func.extract("epoch", func.clock_timestamp() - func.min(Mail.created_at))
    waiting, seconds = session.execute(select(func.count(), late).where(*OPEN)).one()
    day = func.clock_timestamp() - timedelta(days=1)
    given_up = session.scalar(select(func.count()).where(Mail.given_up_at > day)) or 0
    error = session.scalar(
        select(Mail.last_error)
        .where(Mail.last_error.is_not(None), Mail.sent_at.is_(None), Mail.created_at > day)
        .order_by(Mail.next_try_at.desc())
        .limit(1)
    )
    return Tally(waiting, float(seconds or 0), given_up, error)
