"""`labfleet mail` against a real server, with a real mail server behind it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mail_server import MailServer
from sqlalchemy import select, update
from sqlalchemy.orm import Session, sessionmaker

from labfleet.cli.credentials import Credentials, save
from labfleet.config import MailSection
from labfleet.db.models import Job, User
from labfleet.dispatch.listener import Listener
from labfleet.mail.process import Mailer
from labfleet.users.service import issue_token

Run = Callable[..., Any]


@pytest.fixture
def mail_server() -> Iterator[MailServer]:
    with MailServer() as server:
        yield server


@pytest.fixture
def section(mail_server: MailServer, monkeypatch: pytest.MonkeyPatch) -> MailSection:
    """Mail is on: in the server that starts after this, too."""
    values: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": mail_server.port,
        "security": "none",
        "sender": "labfleet@lab.example",
    }
    for name, value in values.items():
        monkeypatch.setenv(f"LABFLEET_MAIL__{name.upper()}", str(value))
    return MailSection.model_validate(values)


@pytest.fixture
def run_as_admin(
    section: MailSection,
    run: Run,
    admin: User,
    sessions: sessionmaker[Session],
    request: pytest.FixtureRequest,
) -> Run:
    """`run`, signed in as an admin, on a server that was started when mail was on."""
    server = request.getfixturevalue("server")
    with sessions.begin() as session:
        save(Credentials(server.url, issue_token(session, session.merge(admin))))
    return run


@pytest.fixture
def mailing(section: MailSection, sessions: sessionmaker[Session]) -> Iterator[None]:
    """Mails are carried in a thread of their own."""

    def none() -> Listener:
        raise AssertionError("a round needs none")

    mailer, done = Mailer(section, None, "https://lab.example", sessions, none), threading.Event()

    def carry() -> None:
        while not done.wait(0.05):
            mailer.round()

    thread = threading.Thread(target=carry)
    thread.start()
    yield
    done.set()
    thread.join(60)


def test_it_says_that_the_server_has_taken_it(
    run_as_admin: Run, mailing: None, mail_server: MailServer
) -> None:
    ended = run_as_admin("mail", "test", "ada@lab.example")
    assert ended.code == 0, ended.err
    assert "has taken the mail to ada@lab.example" in ended.out
    assert "root has asked for it" in mail_server.text()
    assert "0 wait; 0 were given up" in run_as_admin("mail", "status").out
    assert "sent" in run_as_admin("mail", "list").out


def test_it_says_what_the_server_answers(run_as_admin: Run, mailing: None, mail_server: MailServer) -> None:
    mail_server.answers.append("550 5.7.1 You may not send as this")
    ended = run_as_admin("mail", "test", "ada@lab.example")
    assert ended.code == 1
    assert "550 5.7.1 You may not send as this" in ended.err


def test_it_says_that_nobody_sends(run_as_admin: Run) -> None:
    ended = run_as_admin("mail", "test", "ada@lab.example", "--wait", "0")
    assert ended.code == 1
    assert "labfleet-mailer" in ended.err


def test_off_is_told_as_that(signed_in: Run) -> None:
    ended = signed_in("mail", "status")
    assert ended.code == 1 and "admin" in ended.err


def test_mails_on_ends_of_jobs(run_as_admin: Run, sessions: sessionmaker[Session]) -> None:
    assert "no mails when jobs end" in run_as_admin("mail", "jobs").out
    assert "no confirmed address yet" in run_as_admin("mail", "jobs").out
    refused = run_as_admin("mail", "jobs", "each")
    assert refused.code == 1 and "no confirmed mail address" in refused.err
    with sessions.begin() as session:
        session.execute(update(User).values(mail="root@lab.example"))
    chosen = run_as_admin("mail", "jobs", "digest").out
    assert "within 60 minutes" in chosen and "root@lab.example" in chosen
    assert json.loads(run_as_admin("mail", "jobs", "--json").out)["jobs"] == "digest"


@pytest.mark.parametrize(("option", "mail"), [(["--mail"], True), (["--no-mail"], False), ([], None)])
def test_a_job_asks_for_a_mail(
    section: MailSection,
    request: pytest.FixtureRequest,
    sessions: sessionmaker[Session],
    tmp_path: Path,
    option: list[str],
    mail: bool | None,
) -> None:
    signed_in = request.getfixturevalue("signed_in")
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    with sessions.begin() as session:
        session.execute(update(User).values(mail="ada@lab.example"))
    done = signed_in("submit", "table-summary", "-i", f"table=@{tmp_path / 'table.csv'}", *option)
    assert done.code == 0, done.err
    with sessions() as session:
        (job,) = session.scalars(select(Job)).all()
    assert job.mail is mail
    assert ("  mail " in signed_in("show", str(job.id)).out) is (mail is not None)
