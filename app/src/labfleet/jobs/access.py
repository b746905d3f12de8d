"""For whom a job is: its owner lets others look at it, and takes that back. No function commits.

What they see of it says `labfleet.jobs.visible`. Its data stay as they are: a dataset is shared by itself.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable

from sqlalchemy.orm import Session

from labfleet.db.models import Job, JobShare, User
from labfleet.jobs import transition
from labfleet.jobs.visible import get_job_row
from labfleet.users import audit, sharing
from labfleet.users.audit import Action


def share(
    session: Session,
    viewer: User,
    job_id: uuid.UUID,
    *,
    users: Iterable[str] = (),
    groups: Iterable[str] = (),
) -> Job:
    """Let these users and groups look at the job; `NotFound` for unknown ones."""
    job, users, groups = _to_change(session, viewer, job_id), list(users), list(groups)
    job.shares.extend(JobShare(**each) for each in sharing.added(session, job, users, groups))
    _tell(session, Action.JOB_SHARED, job, users=users, groups=groups)
    return job


def unshare(
    session: Session,
    viewer: User,
    job_id: uuid.UUID,
    *,
    users: Iterable[str] = (),
    groups: Iterable[str] = (),
) -> Job:
    """Take that back, from now on."""
    job, users, groups = _to_change(session, viewer, job_id), list(users), list(groups)
    sharing.take_back(job.shares, users, groups)
    _tell(session, Action.JOB_UNSHARED, job, users=users, groups=groups)
    return job


def make_public(session: Session, viewer: User, job_id: uuid.UUID, *, public: bool) -> Job:
    """Let everybody look at the job, or take that back: those it is shared with keep it."""
    job = _to_change(session, viewer, job_id)
    if job.public != public:
        job.public = public
        _tell(session, Action.JOB_PUBLISHED if public else Action.JOB_WITHDRAWN, job)
    return job


def _to_change(session: Session, viewer: User, job_id: uuid.UUID) -> Job:
    get_job_row(session, viewer, job_id)
    return transition.lock_job(session, job_id)


def _tell(session: Session, action: Action, job: Job, **detail: list[str]) -> None:
    audit.record(session, action, str(job.id), label=job.label, owner=job.owner.name, **detail)
    session.flush()
