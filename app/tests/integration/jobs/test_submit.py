from __future__ import annotations

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from labfleet.db.models import EventRow, Job, Protocol, ProtocolVersion, Task, User
from labfleet.errors import (
    IdempotencyMismatch,
    Invalid,
    InvalidInputs,
    InvalidParameters,
    LabfleetError,
    NotFound,
    UnknownDataset,
    UnknownProtocol,
    UnknownVersion,
)
from labfleet.jobs import search, service, verbs
from labfleet.jobs.search import Filter
from labfleet.jobs.spec import JobSpec
from labfleet.jobs.states import State
from labfleet.jobs.visible import with_protocol

Sessions = sessionmaker[Session]


def task_of(session: Session, job_id: uuid.UUID) -> Task:
    return session.scalars(select(Task).where(Task.job_id == job_id).options(with_protocol())).one()


def test_an_accepted_job_is_a_job_a_waiting_task_and_an_event(
    sessions: Sessions, user: User, protocol: ProtocolVersion, make_dataset: Callable[[User], uuid.UUID]
) -> None:
    dataset = make_dataset(user)
    request = JobSpec(
        protocol="echo", version="1.0.0", parameters={"times": 2}, inputs={"data": dataset}, label="first"
    )
    with sessions.begin() as session:
        job = service.submit(session, user, request, "key-1", max_attempts=5)
        task = task_of(session, job.id)
    assert (job.state, job.label, job.owner.name) == ("queued", "first", "ada")
    assert task.parameters == {"text": "hello", "times": 2}
    assert task.inputs == {"data": str(dataset)}
    assert (task.state, task.attempt, task.max_attempts, task.key) == ("queued", 1, 5, "python")
    assert task.protocol_version.protocol.name == "echo"
    assert job.created_at.utcoffset() is not None
    with sessions() as session:
        event = session.scalars(select(EventRow)).one()
    assert (event.event, event.from_state, event.to_state, event.attempt) == ("submitted", None, "queued", 1)
    assert (task.ready, task.held, task.placed_on, task.name) == (True, False, None, "task")
    assert (job.protocols, job.datasets, job.tasks_total) == (["echo"], [str(dataset)], 1)


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (JobSpec(protocol="nothing"), UnknownProtocol),
        (JobSpec(protocol="echo", version="9.9.9"), UnknownVersion),
        (JobSpec(protocol="echo", parameters={"times": "two"}), InvalidParameters),
        (JobSpec(protocol="echo", parameters={"colour": 1}), InvalidParameters),
        (JobSpec(protocol="echo", inputs={"genes": uuid.uuid4()}), InvalidInputs),
        (JobSpec(protocol="echo", inputs={"data": uuid.uuid4()}), UnknownDataset),
    ],
)
def test_a_request_that_names_something_wrong_leaves_nothing(
    sessions: Sessions,
    user: User,
    protocol: ProtocolVersion,
    request_: JobSpec,
    error: type[LabfleetError],
) -> None:
    with sessions() as session:
        with pytest.raises(error) as caught:
            service.submit(session, user, request_)
        session.commit()
        assert caught.value.hint
        assert session.scalar(select(func.count()).select_from(Job)) == 0


def test_somebody_elses_dataset_is_unknown_except_to_an_admin(
    sessions: Sessions,
    user: User,
    admin: User,
    protocol: ProtocolVersion,
    make_dataset: Callable[[User], uuid.UUID],
) -> None:
    hers, roots = make_dataset(user), make_dataset(admin)
    with sessions.begin() as session:
        with pytest.raises(UnknownDataset, match=str(roots)):
            service.submit(session, user, JobSpec(protocol="echo", inputs={"data": roots}))
        service.submit(session, admin, JobSpec(protocol="echo", inputs={"data": hers}))


def test_no_version_means_the_newest_and_a_commit_names_one(
    sessions: Sessions, user: User, protocol: ProtocolVersion
) -> None:
    with sessions.begin() as session:
        newer = ProtocolVersion(
            protocol_id=protocol.protocol_id, commit="b" * 40, version="1.1.0", manifest=protocol.manifest
        )
        session.add_all([newer, Protocol(name="empty")])
    with sessions.begin() as session:
        job = service.submit(session, user, JobSpec(protocol="echo"))
        assert task_of(session, job.id).protocol_version_id == newer.id
        by_commit = service.submit(session, user, JobSpec(protocol="echo", version="a" * 40))
        assert task_of(session, by_commit.id).protocol_version_id == protocol.id
        with pytest.raises(UnknownVersion, match="no version"):
            service.submit(session, user, JobSpec(protocol="empty"))


def test_the_same_key_a_hundred_times_at_once_makes_one_job(
    sessions: Sessions, user: User, protocol: ProtocolVersion
) -> None:
    def submit(_: int) -> uuid.UUID:
        with sessions.begin() as session:
            return service.submit(session, user, JobSpec(protocol="echo"), "the-key").id

    with ThreadPoolExecutor(100) as pool:
        ids = set(pool.map(submit, range(100)))
    with sessions() as session:
        for table in (Job, Task, EventRow):
            assert session.scalar(select(func.count()).select_from(table)) == 1
    assert len(ids) == 1


def test_a_key_belongs_to_one_request_of_one_owner(
    sessions: Sessions, user: User, admin: User, protocol: ProtocolVersion
) -> None:
    with sessions.begin() as session:
        first = service.submit(session, user, JobSpec(protocol="echo", label="a"), "k")
        with pytest.raises(IdempotencyMismatch, match=str(first.id)):
            service.submit(session, user, JobSpec(protocol="echo", label="b"), "k")
        assert service.submit(session, admin, JobSpec(protocol="echo", label="b"), "k").id != first.id
        assert service.submit(session, user, JobSpec(protocol="echo"), None).id != first.id
        for key in ("", "x" * 201):
            with pytest.raises(Invalid, match="Idempotency-Key"):
                service.submit(session, user, JobSpec(protocol="echo"), key)


def test_pages_hold_every_job_once_newest_first(
    sessions: Sessions, user: User, submit: Callable[[], uuid.UUID]
) -> None:
    for _ in range(7):
        submit()
    with sessions() as session:
        expected = list(session.scalars(select(Job.id).order_by(Job.created_at.desc())))
        seen, after = [], None
        while True:
            page = search.list_jobs(session, user, limit=3, after=after)
            seen += [job.id for job in page.items]
            after = page.next
            if after is None:
                break
    assert seen == expected
    assert len(page.items) == 1


def test_a_list_can_be_narrowed_to_a_state_and_refuses_a_foreign_mark(
    sessions: Sessions, user: User, submit: Callable[[], uuid.UUID]
) -> None:
    submit()
    with sessions() as session:
        assert len(search.list_jobs(session, user, Filter([State.QUEUED])).items) == 1
        assert search.list_jobs(session, user, Filter([State.RUNNING])).items == []
        with pytest.raises(Invalid, match="after"):
            search.list_jobs(session, user, after=uuid.uuid4())


def test_others_see_nothing_of_a_job_and_an_admin_sees_all(
    sessions: Sessions,
    user: User,
    admin: User,
    make_user: Callable[..., User],
    submit: Callable[[], uuid.UUID],
) -> None:
    task_id = submit()
    stranger = make_user("mallory")
    with sessions() as session:
        job_id = service.get_task(session, user, task_id).job_id
        assert search.list_jobs(session, stranger).items == []
        for look in (service.get_task, service.task_events, service.task_artifacts):
            assert look(session, admin, task_id) is not None
            with pytest.raises(NotFound):
                look(session, stranger, task_id)
        for look in (service.get_job_row, verbs.cancel, verbs.retry, verbs.remove, verbs.hold):
            with pytest.raises(NotFound):
                look(session, stranger, job_id)
        assert service.get_job_row(session, admin, job_id).owner.name == "ada"
        assert len(search.list_jobs(session, admin).items) == 1
        with pytest.raises(NotFound):
            service.read_artifact(session, admin, uuid.uuid4())
