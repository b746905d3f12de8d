"""The audit log of what is shared, published and deleted, and of jobs that others act on."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from labfleet.datasets import access as datasets
from labfleet.datasets.service import delete_dataset
from labfleet.db.models import AuditRow, ProtocolVersion, User
from labfleet.errors import Forbidden, WrongState
from labfleet.jobs import access, verbs
from labfleet.jobs import service as jobs
from labfleet.jobs.spec import JobSpec
from labfleet.protocols import access as protocols
from labfleet.protocols.service import delete as delete_protocol
from labfleet.users import audit
from labfleet.users.audit import Actor

Sessions = sessionmaker[Session]


@pytest.fixture(autouse=True)
def _as_user(user: User) -> Iterator[None]:
    audit.acting(Actor("page", user))
    yield
    audit.acting(Actor("labfleet", name="labfleet"))


def log(sessions: Sessions) -> list[tuple[str, str, dict[str, object]]]:
    with sessions() as db:
        rows = db.scalars(select(AuditRow).order_by(AuditRow.id)).all()
        return [(row.action, row.subject, row.detail) for row in rows]


def test_whom_a_dataset_is_given_to_is_told(
    sessions: Sessions, user: User, make_user: Callable[..., User], make_dataset: Callable[[User], uuid.UUID]
) -> None:
    make_user("grace")
    which = make_dataset(user)
    with sessions.begin() as db:
        datasets.share(db, user, which, users=["grace"])
        datasets.make_public(db, user, which, public=True)
        datasets.make_public(db, user, which, public=True)  # once more changes nothing
        datasets.make_public(db, user, which, public=False)
        datasets.unshare(db, user, which, users=iter(["grace"]))
        delete_dataset(db, user, which)
    with_grace = {"name": "data.csv", "users": ["grace"], "groups": []}
    assert log(sessions) == [
        ("dataset.shared", str(which), with_grace),
        ("dataset.published", str(which), {"name": "data.csv"}),
        ("dataset.withdrawn", str(which), {"name": "data.csv"}),
        ("dataset.unshared", str(which), with_grace),
        ("dataset.deleted", str(which), {"name": "data.csv", "owner": "ada"}),
    ]


def test_what_was_refused_is_not_told(
    sessions: Sessions, user: User, make_user: Callable[..., User], make_dataset: Callable[[User], uuid.UUID]
) -> None:
    grace = make_user("grace")
    which = make_dataset(user)
    with sessions.begin() as db:
        datasets.make_public(db, user, which, public=True)
    with pytest.raises(Forbidden), sessions.begin() as db:
        datasets.share(db, grace, which, users=["grace"])
    assert [action for action, _, _ in log(sessions)] == ["dataset.published"]


def test_whom_a_protocol_is_given_to_is_told(
    sessions: Sessions, admin: User, make_user: Callable[..., User], protocol: ProtocolVersion
) -> None:
    make_user("grace")
    with sessions.begin() as db:
        protocols.share(db, admin, "echo", users=["grace"])
        protocols.publish(db, admin, "echo")  # everybody has it already
        protocols.withdraw(db, admin, "echo")
        protocols.publish(db, admin, "echo")
        protocols.transfer(db, admin, "echo", "grace")
        delete_protocol(db, admin, "echo")
    assert [(action, subject) for action, subject, _ in log(sessions)] == [
        ("protocol.shared", "echo"),
        ("protocol.withdrawn", "echo"),
        ("protocol.published", "echo"),
        ("protocol.transferred", "echo"),
        ("protocol.deleted", "echo"),
    ]


def test_what_others_do_to_a_job_is_told(
    sessions: Sessions, user: User, admin: User, protocol: ProtocolVersion
) -> None:
    with sessions.begin() as db:
        job = jobs.submit(db, user, JobSpec(protocol="echo", label="mine")).id
    with sessions.begin() as db:
        verbs.hold(db, user, job)  # its owner: that stands in the job's own events
        verbs.resume(db, admin, job)
        verbs.cancel(db, admin, job)
    with sessions.begin() as db:
        verbs.remove(db, user, job)
    assert log(sessions) == [
        ("job.of_another", str(job), {"verb": "resume", "owner": "ada"}),
        ("job.of_another", str(job), {"verb": "cancel", "owner": "ada"}),
        ("job.deleted", str(job), {"label": "mine", "owner": "ada"}),
    ]


def test_whom_a_job_is_given_to_is_told(
    sessions: Sessions, user: User, make_user: Callable[..., User], protocol: ProtocolVersion
) -> None:
    grace = make_user("grace")
    with sessions.begin() as db:
        job = jobs.submit(db, user, JobSpec(protocol="echo", label="mine")).id
    with sessions.begin() as db:
        access.share(db, user, job, users=["grace"])
        access.make_public(db, user, job, public=True)
        access.make_public(db, user, job, public=True)  # once more changes nothing
        access.make_public(db, user, job, public=False)
    with pytest.raises(Forbidden), sessions.begin() as db:
        access.share(db, grace, job, groups=["crew"])
    with sessions.begin() as db:
        access.unshare(db, user, job, users=iter(["grace"]))
    told = {"label": "mine", "owner": "ada"}
    assert log(sessions) == [
        ("job.shared", str(job), {**told, "users": ["grace"], "groups": []}),
        ("job.published", str(job), told),
        ("job.withdrawn", str(job), told),
        ("job.unshared", str(job), {**told, "users": ["grace"], "groups": []}),
    ]


def test_a_verb_that_is_refused_is_not_told(
    sessions: Sessions, user: User, admin: User, protocol: ProtocolVersion
) -> None:
    with sessions.begin() as db:
        job = jobs.submit(db, user, JobSpec(protocol="echo")).id
    with pytest.raises(WrongState), sessions.begin() as db:
        verbs.remove(db, admin, job)
    assert log(sessions) == []
