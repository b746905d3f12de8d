"""Carries mails: takes one that is due, hands it to the server, settles what the server said.

A row stays locked while it is sent, so that two mailers never send it both; if the process dies the lock
goes, and the mail is sent again with the same Message-ID.
"""

from __future__ import annotations

import time
from datetime import timedelta

from sqlalchemy import delete, func, or_, select, update
from sqlalchemy.orm import Session

from labfleet.config import MailSection
from labfleet.db.models import Mail
from labfleet.log import get_logger
from labfleet.mail import metrics
from labfleet.mail.outbox import OPEN
from labfleet.mail.server import MAX_ERROR, Refused, Server, ServerAway, message

_log = get_logger(__name__)
EXPIRED = "It was not sent in the time in which it was worth it."


def take(session: Session) -> Mail | None:
    """The mail that has been due for longest, locked until the caller commits; None for none."""
    statement = (
        select(Mail)
        .where(*OPEN, Mail.next_try_at <= func.clock_timestamp())
        .order_by(Mail.next_try_at, Mail.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    return session.scalars(statement).one_or_none()


def deliver(session: Session, row: Mail, server: Server, section: MailSection, site: str) -> None:
    """Send one mail and write down what came of it. Raises `ServerAway`, which the row knows of, too."""
    began = time.monotonic()
    try:
        server.send(message(row, section.sender, site))
    except Refused as error:
        _failed(row, str(error), section, final=error.final)
    except ValueError as error:  # a header that can't be
        _failed(row, f"This can't be made a mail: {error}", section, final=True)
    else:
        row.tries += 1
        row.last_error = None
        _end(row, "sent")
        row.sent_at = func.clock_timestamp()
        metrics.SENT.inc()
        metrics.SECONDS.observe(time.monotonic() - began)
    session.flush()


def postpone(session: Session, row: Mail, error: ServerAway, section: MailSection) -> None:
    """Write down that the server could not be spoken to."""
    _failed(row, str(error), section, final=False)
    session.flush()


def postpone_due(session: Session, error: ServerAway, section: MailSection) -> None:
    """The same for all that is due, where not even a conversation began."""
    due = select(Mail).where(*OPEN, Mail.next_try_at <= func.clock_timestamp())
    for row in session.scalars(due.with_for_update(skip_locked=True)):
        _failed(row, str(error), section, final=False)
    session.flush()


def hurry(session: Session) -> None:
    """Let all that wait for another try be tried now: the server is back."""
    session.execute(update(Mail).where(*OPEN).values(next_try_at=func.clock_timestamp()))


def expire(session: Session) -> int:
    """Give up what is not worth sending any more; how many those were."""
    late = (
        select(Mail).where(*OPEN, Mail.expires_at <= func.clock_timestamp()).with_for_update(skip_locked=True)
    )
    rows = session.scalars(late).all()
    for row in rows:
        row.last_error = f"{EXPIRED} {row.last_error or ''}".strip()[:MAX_ERROR]
        _end(row, "expired")
        row.given_up_at = func.clock_timestamp()
        metrics.EXPIRED.inc()
    session.flush()
    return len(rows)


def purge(session: Session, section: MailSection) -> None:
    """Forget what was sent or given up long ago."""
    before = func.clock_timestamp() - timedelta(days=section.kept_days)
    session.execute(delete(Mail).where(or_(Mail.sent_at < before, Mail.given_up_at < before)))


def next_due(session: Session) -> float:
    """In how many seconds the next mail is due, negative when it is late; infinity for none."""
    seconds = session.scalar(
        select(func.extract("epoch", func.min(Mail.next_try_at) - func.clock_timestamp())).where(*OPEN)
    )
    return float("inf" if seconds is None else seconds)


def _failed(row: Mail, said: str, section: MailSection, *, final: bool) -> None:
    row.tries += 1
    row.last_error = said[:MAX_ERROR]
    if final or row.tries >= section.tries:
        _end(row, "given up")
        row.given_up_at = func.clock_timestamp()
        metrics.GIVEN_UP.inc()
    else:
        row.next_try_at = func.clock_timestamp() + timedelta(seconds=section.delay(row.tries))
        metrics.TO_BE_TRIED_AGAIN.inc()
        # What the server said may have the address in it: whoever reads the journal need not know it.
        _log.info("mail not taken", mail=str(row.id), kind=row.kind, tries=row.tries)


def _end(row: Mail, how: str) -> None:
    # Its link is in no backup that is made from now on.
    row.body = ""
    _log.info(f"mail {how}", mail=str(row.id), kind=row.kind, tries=row.tries)
