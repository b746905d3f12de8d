"""`labfleet mail` against a real server, with a real mail server behind it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from mail_server import MailServer
from sqlalchemy.orm import Session, sessionmaker

from labfleet.cli.credentials import Credentials, save
from labfleet.config import MailSection
from labfleet.db.models import User
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
