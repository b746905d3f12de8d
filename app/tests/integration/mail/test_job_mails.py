"""Mails on the ends of jobs, from the final state to a real SMTP server: one, none, or one for several."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from mail_server import MailServer
from prometheus_client import REGISTRY
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session, sessionmaker

from labfleet.config import MailSection
from labfleet.db.models import Job, Mail, Notice, ProtocolVersion, Task, User
from labfleet.dispatch.listener import Listener
from labfleet.errors import MailOff, NoAddress
from labfleet.jobs import attempts, finishing, service, verbs
from labfleet.jobs.finishing import Ending
from labfleet.jobs.spec import JobSpec
from labfleet.jobs.states import Failure, Outcome
from labfleet.mail import notices, told
from labfleet.mail.notices import Wish
from labfleet.mail.outbox import Post
from labfleet.mail.process import Mailer

Sessions = sessionmaker[Session]
Submit = Callable[..., uuid.UUID]
Finish = Callable[..., uuid.UUID]
Carry = Callable[..., None]
SITE = "https://lab.example/"
SECRET = "the patients' names"
ONE = {"protocol": "echo", "parameters": {"text": SECRET}}


@pytest.fixture
def server() -> Iterator[MailServer]:
    with MailServer() as server:
        yield server


@pytest.fixture
def settings(server: MailServer) -> Callable[..., MailSection]:
    def settings(**changes: Any) -> MailSection:
        told = {"host": "127.0.0.1", "port": server.port, "security": "none", "sender": "l@lab.example"}
        return MailSection.model_validate(told | changes)

    return settings


@pytest.fixture
def carry(sessions: Sessions, settings: Callable[..., MailSection]) -> Carry:
    """One round of a mailer."""

    def no_listener() -> Listener:
        raise AssertionError("a round needs none")

    def carry(**changes: Any) -> None:
        Mailer(settings(**changes), None, SITE, sessions, no_listener).round()

    return carry


@pytest.fixture
def ada(sessions: Sessions, user: User) -> User:
    with sessions.begin() as session:
        session.add(user)
        user.mail = "ada@lab.example"
    return user


@pytest.fixture
def wish(sessions: Sessions, settings: Callable[..., MailSection], ada: User) -> Callable[[Wish], None]:
    def wish(which: Wish) -> None:
        with sessions.begin() as session:
            notices.choose(session, settings(), ada, which)

    return wish


@pytest.fixture
def submit(
    sessions: Sessions, protocol: ProtocolVersion, ada: User, settings: Callable[..., MailSection]
) -> Submit:
    def submit(**about: Any) -> uuid.UUID:
        spec = JobSpec(**{"label": "Golub", **({} if "tree" in about else ONE), **about})
        with sessions.begin() as session:
            return service.submit(session, ada, spec, max_attempts=1, mails=settings()).id

    return submit


@pytest.fixture
def finish(sessions: Sessions, submit: Submit) -> Finish:
    """A job that has come to its end."""

    def finish(failure: Failure | None = None, *, job: uuid.UUID | None = None, **about: Any) -> uuid.UUID:
        job_id = job or submit(**about)
        outcome = Outcome.FAILED if failure else Outcome.SUCCESS
        with sessions.begin() as session:
            for task in session.scalars(
                select(Task).where(Task.job_id == job_id, Task.state == "queued")
            ).all():
                claim = f"claim of {task.attempt}"
                attempts.claim(session, task.id, task.attempt, "w1", claim, lease_seconds=60)
                finishing.finish(session, task.id, task.attempt, Ending(outcome, failure, message=SECRET))
        return job_id

    return finish


def age(sessions: Sessions, **how_long: float) -> None:
    with sessions.begin() as session:
        session.execute(update(Notice).values(created_at=func.clock_timestamp() - timedelta(**how_long)))


def count(sessions: Sessions, what: Any) -> int:
    with sessions() as session:
        return session.scalars(select(func.count()).select_from(what)).one()


def figure(how: str) -> float:
    return REGISTRY.get_sample_value("labfleet_job_mails_total", {"told": how}) or 0


def test_a_job_that_asks_is_told_by_one_mail(server: MailServer, finish: Finish, carry: Carry) -> None:
    before = figure("singly")
    job_id = finish(mail=True)
    carry()
    carry()
    (mail,) = server.mails
    assert mail["To"] == "ada@lab.example"
    assert mail["Subject"] == "Labfleet: Golub: success"
    assert mail["List-Unsubscribe"] == "<https://lab.example/profile#job-mails>"
    said = server.text()
    assert 'your job "Golub" has ended with success.' in said
    assert f"https://lab.example/jobs/{job_id}\n" in said
    assert "https://lab.example/profile#job-mails" in said
    assert SECRET not in said and "at fault" not in said
    assert figure("singly") == before + 1


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (Failure.USER, "The protocol or the data is at fault (user)."),
        (Failure.SYSTEM, "This Labfleet is at fault (system)"),
    ],
)
def test_it_says_whose_failure_it_was(
    server: MailServer, finish: Finish, carry: Carry, failure: Failure, words: str
) -> None:
    finish(failure, mail=True)
    carry()
    assert server.mails[0]["Subject"] == "Labfleet: Golub: failed"
    said = server.text()
    assert 'your job "Golub" has failed.' in said
    assert words in said and SECRET not in said


def test_of_a_tree_it_tells_how_many_failed(server: MailServer, sessions: Sessions, submit: Submit) -> None:
    leaves = [{"task": name, "protocol": "echo", "optional": name == "a"} for name in ("a", "b", "c")]
    job_id = submit(tree={"parallel": leaves}, mail=True)
    with sessions.begin() as session:
        tasks = session.scalars(select(Task).where(Task.job_id == job_id).order_by(Task.name)).all()
        for task, failure in zip(tasks, (None, Failure.USER, Failure.SYSTEM), strict=True):
            attempts.claim(session, task.id, 1, "w1", task.name, lease_seconds=60)
            outcome = Outcome.FAILED if failure else Outcome.SUCCESS
            finishing.finish(session, task.id, 1, Ending(outcome, failure))
    with sessions.begin() as session:
        told.tell(session, Post(MailSection(), SITE), session.scalars(select(Notice.user_id)).one())
        (mail,) = session.scalars(select(Mail)).all()
        assert mail.subject == "Labfleet: Golub: partial"
        assert "1 of its 3 tasks failed. The protocol" in mail.body
        assert "1 of its 3 tasks failed. This Labfleet" in mail.body


def test_the_note_is_one_with_the_final_state(
    server: MailServer, sessions: Sessions, submit: Submit, carry: Carry
) -> None:
    job_id = submit(mail=True)
    with pytest.raises(RuntimeError), sessions.begin() as session:
        task = session.scalars(select(Task).where(Task.job_id == job_id)).one()
        attempts.claim(session, task.id, 1, "w1", "c", lease_seconds=60)
        finishing.finish(session, task.id, 1, Ending(Outcome.SUCCESS))
        assert session.scalars(select(Notice.job_id)).all() == [job_id]
        raise RuntimeError("the machine dies")
    carry()
    assert (server.mails, count(sessions, Notice)) == ([], 0)


def test_many_mailers_tell_it_once(
    server: MailServer, sessions: Sessions, settings: Callable[..., MailSection], finish: Finish, carry: Carry
) -> None:
    for number in range(10):
        finish(mail=True, label=f"job {number}")
    post = Post(settings(), SITE)

    def one(_: int) -> None:
        with sessions.begin() as session:
            for user_id in told.due(session, post.section):
                told.tell(session, post, user_id)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one, range(8)))
    carry()
    assert sorted(mail["Subject"] for mail in server.mails) == [
        f"Labfleet: job {number}: success" for number in range(10)
    ]


@pytest.mark.parametrize(
    ("wanted", "mail", "mails"),
    [
        (Wish.NEVER, None, 0),
        (Wish.NEVER, True, 1),
        (Wish.EACH, None, 1),
        (Wish.EACH, False, 0),
        (Wish.DIGEST, None, 0),
        (Wish.DIGEST, True, 1),
        (Wish.DIGEST, False, 0),
    ],
)
def test_who_gets_one_at_once(
    server: MailServer,
    finish: Finish,
    wish: Callable[[Wish], None],
    carry: Carry,
    wanted: Wish,
    mail: bool | None,
    mails: int,
) -> None:
    wish(wanted)
    finish(mail=mail)
    carry()
    assert len(server.mails) == mails


def test_a_digest_waits_and_tells_all(
    server: MailServer, sessions: Sessions, finish: Finish, wish: Callable[[Wish], None], carry: Carry
) -> None:
    wish(Wish.DIGEST)
    first = finish(label="one")
    carry()
    assert server.mails == []
    age(sessions, minutes=61)
    finish(Failure.USER, label="two\r\nBcc: eve@lab.example")
    finish(label="")
    carry(digest_jobs=2)
    carry()
    (mail,) = server.mails
    assert mail["Subject"] == "Labfleet: 3 jobs ended: 2 success, 1 failed"
    said = server.text()
    assert f"success: one\n    https://lab.example/jobs/{first}\n" in said
    assert "failed: two Bcc: eve@lab.example\n    The protocol or the data is at fault (user).\n" in said
    assert "and 1 more: https://lab.example/jobs\n" in said
    assert count(sessions, Notice) == 0


def test_too_many_at_once_become_a_digest(
    server: MailServer, sessions: Sessions, finish: Finish, wish: Callable[[Wish], None], carry: Carry
) -> None:
    wish(Wish.EACH)
    for _ in range(5):
        finish()
    carry(single_mails=3)
    carry(single_mails=3)
    assert (len(server.mails), count(sessions, Notice)) == (3, 2)
    age(sessions, minutes=61)
    carry(single_mails=3)
    assert [mail["Subject"] for mail in server.mails[3:]] == ["Labfleet: 2 jobs ended: 2 success"]


def test_what_counts_is_what_is_wanted_when_it_is_told(
    server: MailServer, sessions: Sessions, finish: Finish, wish: Callable[[Wish], None], carry: Carry
) -> None:
    before = figure("not")
    wish(Wish.DIGEST)
    finish()
    wish(Wish.NEVER)
    carry()
    assert (server.mails, count(sessions, Notice)) == ([], 0)
    assert figure("not") == before + 1


@pytest.mark.parametrize("columns", [{"mail": None}, {"disabled_at": func.clock_timestamp()}])
def test_nobody_to_tell(
    server: MailServer, sessions: Sessions, finish: Finish, carry: Carry, columns: dict[str, Any]
) -> None:
    finish(mail=True)
    with sessions.begin() as session:
        session.execute(update(User).values(**columns))
    carry()
    assert (server.mails, count(sessions, Notice)) == ([], 0)


def test_what_ended_long_ago_is_told_no_more(
    server: MailServer, sessions: Sessions, finish: Finish, carry: Carry
) -> None:
    finish(mail=True)
    age(sessions, hours=25)
    carry()
    assert (server.mails, count(sessions, Notice)) == ([], 0)


def test_a_job_that_goes_on_is_told_at_its_next_end(
    server: MailServer, sessions: Sessions, ada: User, finish: Finish, carry: Carry
) -> None:
    job_id = finish(Failure.USER, mail=True)
    with sessions.begin() as session:
        verbs.retry(session, ada, job_id)
    assert count(sessions, Notice) == 0
    carry()
    finish(job=job_id)
    carry()
    assert [mail["Subject"] for mail in server.mails] == ["Labfleet: Golub: success"]


def test_a_job_that_is_deleted_is_not_told(
    server: MailServer, sessions: Sessions, ada: User, finish: Finish, carry: Carry
) -> None:
    job_id = finish(mail=True)
    with sessions.begin() as session:
        verbs.remove(session, ada, job_id)
    carry()
    assert server.mails == []


def test_a_cancelled_job_is_told_too(
    server: MailServer, sessions: Sessions, ada: User, submit: Submit, carry: Carry
) -> None:
    job_id = submit(mail=True)
    with sessions.begin() as session:
        verbs.cancel(session, ada, job_id)
    carry()
    assert 'your job "Golub" was cancelled.' in server.text()


def test_it_takes_a_server_and_an_address(
    sessions: Sessions, protocol: ProtocolVersion, user: User, settings: Callable[..., MailSection]
) -> None:
    spec = JobSpec(protocol="echo", mail=True)
    with sessions.begin() as session:
        with pytest.raises(MailOff):
            service.submit(session, user, spec)
        with pytest.raises(MailOff):
            notices.choose(session, MailSection(), user, Wish.EACH)
        with pytest.raises(NoAddress):
            service.submit(session, user, spec, mails=settings())
        with pytest.raises(NoAddress):
            notices.choose(session, settings(), user, Wish.DIGEST)
        assert notices.choose(session, MailSection(), user, Wish.NEVER).job_mails == "never"
        assert session.scalars(select(Job.id)).all() == []
