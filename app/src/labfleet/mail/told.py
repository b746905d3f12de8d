"""Mails about jobs that have ended, made of their notes by the mailer.

The notes are forgotten in the transaction that writes the mails: no end is lost, none is told twice. What a
note becomes is decided here, by what its owner wants by now. No function commits; its caller does.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, delete, func, or_, select
from sqlalchemy.orm import Session

from labfleet.config import MailSection
from labfleet.db.models import Job, Mail, Notice, Task, User
from labfleet.mail import metrics, outbox, texts
from labfleet.mail.notices import PATH, Wish
from labfleet.mail.outbox import Kind, Post
from labfleet.mail.texts import Ended

Notices = Sequence[Notice]


def due(session: Session, section: MailSection) -> Sequence[uuid.UUID]:
    """The users whose notes are to be looked at now."""
    waited = func.min(Notice.created_at) <= _ago(minutes=section.digest_minutes)
    at_once = func.bool_or(or_(Notice.asked, User.job_mails != Wish.DIGEST.value))
    statement = select(Notice.user_id).join(User, User.id == Notice.user_id)
    return session.scalars(statement.group_by(Notice.user_id).having(or_(waited, at_once))).all()


def tell(session: Session, post: Post, user_id: uuid.UUID) -> None:
    """Make mails of the user's notes, as far as it is time."""
    # Another mailer waits here, and then finds nothing.
    locked = select(Notice).where(Notice.user_id == user_id).order_by(Notice.created_at, Notice.job_id)
    notes = session.scalars(locked.with_for_update()).all()
    user = session.get_one(User, user_id)
    wanted = _wanted(session, post.section, user, notes)
    singly, together = _divided(session, post.section, user, wanted)
    _write(session, post, user, singly, together)
    unwanted = [note for note in notes if note not in wanted]
    gone = [note.job_id for note in (*singly, *together, *unwanted)]
    session.execute(delete(Notice).where(Notice.job_id.in_(gone)))
    for result, some in ((metrics.SINGLY, singly), (metrics.TOGETHER, together), (metrics.NOT, unwanted)):
        result.inc(len(some))


def _wanted(session: Session, section: MailSection, user: User, notes: Notices) -> list[Notice]:
    """Those that are to be told: not if there is nobody to tell, he wants it no more, or it is too late."""
    if user.mail is None or user.disabled_at is not None:
        return []
    late = session.scalars(select(_ago(hours=section.job_hours))).one()
    never = user.job_mails == Wish.NEVER.value
    return [note for note in notes if note.created_at > late and (note.asked or not never)]


def _divided(session: Session, section: MailSection, user: User, notes: Notices) -> tuple[Notices, Notices]:
    """Those that get a mail each, and those of the digest if its time has come."""
    recent = Mail.created_at > _ago(minutes=section.digest_minutes)
    count = select(func.count()).where(Mail.user_id == user.id, Mail.kind == Kind.JOB.value, recent)
    room = max(section.single_mails - session.scalars(count).one(), 0)
    own = [note for note in notes if note.asked or user.job_mails == Wish.EACH.value]
    singly = own[:room]
    rest = [note for note in notes if note not in singly]
    waited = session.scalars(select(_ago(minutes=section.digest_minutes))).one()
    return singly, rest if rest and rest[0].created_at <= waited else []


def _write(session: Session, post: Post, user: User, singly: Notices, together: Notices) -> None:
    to, setting, seconds = user.mail or "", post.address(PATH), post.section.job_hours * 3600
    for end in _ends(session, post, singly):
        said = texts.job_ended(user.name, end, setting, seconds)
        outbox.write(session, Kind.JOB, to, said, user=user)
    if together:
        ends = _ends(session, post, together)
        shown = post.section.digest_jobs
        said = texts.jobs_ended(user.name, ends, shown, post.address("/jobs"), setting, seconds)
        outbox.write(session, Kind.JOBS, to, said, user=user)


def _ends(session: Session, post: Post, notes: Notices) -> list[Ended]:
    """What is told of these jobs, in the order of the notes."""
    ids = [note.job_id for note in notes]
    jobs = {job.id: job for job in session.scalars(select(Job).where(Job.id.in_(ids)))}
    failed = select(Task.job_id, Task.failure, func.count()).where(
        Task.job_id.in_(ids), Task.state == "failed"
    )
    faults: dict[uuid.UUID, dict[str, int]] = {}
    for job_id, whose, number in session.execute(failed.group_by(Task.job_id, Task.failure)):
        faults.setdefault(job_id, {})[whose or "system"] = number
    return [
        Ended(
            label=jobs[job_id].label or ", ".join(jobs[job_id].protocols),
            state=jobs[job_id].state,
            tasks=jobs[job_id].tasks_total,
            by_user=faults.get(job_id, {}).get("user", 0),
            by_system=faults.get(job_id, {}).get("system", 0),
            link=post.address(f"/jobs/{job_id}"),
        )
        for job_id in ids
    ]


def _ago(**how_long: float) -> ColumnElement[Any]:
    return func.clock_timestamp() - timedelta(**how_long)
