"""Who wants a mail when a job ends, and the note of it, written in the transaction of the final state.

The mailer makes mails of the notes (`mail/told.py`). No function commits; its caller does.
"""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import delete, func, literal, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from labfleet.config import MailSection
from labfleet.db.models import Job, Notice, User
from labfleet.errors import MailOff, NoAddress
from labfleet.mail.outbox import CHANNEL

PATH = "/profile#job-mails"
"""Where people say what they want; the mails name it."""


class Wish(StrEnum):
    """On which ends of jobs somebody wants mails. What is said of a single job goes before it."""

    NEVER = "never"
    EACH = "each"
    DIGEST = "digest"


def choose(session: Session, section: MailSection, user: User, wish: Wish) -> User:
    """Keep what the user wants. Raises `MailOff` or `NoAddress` where no mail could come."""
    changed = session.get_one(User, user.id, with_for_update={"key_share": True}, populate_existing=True)
    if wish is not Wish.NEVER:
        need(section, changed)
    changed.job_mails = wish.value
    session.flush()
    return changed


def need(section: MailSection, owner: User) -> None:
    """Raise `MailOff` or `NoAddress` where no mail about jobs can come to this user."""
    if not section.host:
        raise MailOff("This Labfleet sends no mails, so none comes when a job ends.")
    if owner.mail is None:
        raise NoAddress("Your account has no confirmed mail address, so no mail can come when a job ends.")


def note(session: Session, job: Job) -> None:
    """Note that the job has reached a final state, if its owner wants to know; the mailer wakes when this
    commits."""
    if job.mail is False:
        return
    row = select(literal(job.id), User.id, literal(bool(job.mail))).where(User.id == job.owner_id)
    if not job.mail:
        row = row.where(User.job_mails != Wish.NEVER.value)
    statement = insert(Notice).from_select(["job_id", "user_id", "asked"], row)
    statement = statement.on_conflict_do_update(
        index_elements=[Notice.job_id], set_={Notice.created_at: func.clock_timestamp()}
    )
    if session.scalar(statement.returning(Notice.job_id)) is not None:
        session.execute(text("SELECT pg_notify(:channel, '')"), {"channel": CHANNEL})


def withdraw(session: Session, job: Job) -> None:
    """Forget that the job had ended, where that is not told yet: it goes on."""
    session.execute(delete(Notice).where(Notice.job_id == job.id))
