"""Mails from their row to a real SMTP server: what arrives, and what is done when it does not."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from mail_server import PASSWORD, USER, MailServer, certificate
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session, sessionmaker

from labfleet.config import MailSection
from labfleet.db.models import Mail
from labfleet.dispatch.listener import Listener
from labfleet.mail import delivery, outbox, texts
from labfleet.mail.outbox import Kind, Text
from labfleet.mail.process import Mailer

Sessions = sessionmaker[Session]
Settings = Callable[..., MailSection]
Carry = Callable[..., Mailer]
Write = Callable[..., uuid.UUID]
SITE = "https://lab.example"


def no_listener() -> Listener:
    raise AssertionError("a round needs none")


@pytest.fixture
def server() -> Iterator[MailServer]:
    with MailServer() as server:
        yield server


def settings(server: MailServer, **changes: Any) -> MailSection:
    return MailSection.model_validate(
        {
            "host": "127.0.0.1",
            "port": server.port,
            "security": "none",
            "sender": "labfleet@lab.example",
            "timeout_seconds": 5,
            "first_delay_seconds": 60,
            "tries": 3,
            **changes,
        }
    )


@pytest.fixture
def write(sessions: Sessions) -> Write:
    def write(to: str = "ada@lab.example", **text: Any) -> uuid.UUID:
        said = Text(**{"subject": "Größe", "body": "Hello,\n\nall is wéll.\n", **text})
        with sessions.begin() as session:
            return outbox.write(session, Kind.TEST, to, said).id

    return write


@pytest.fixture
def carry(sessions: Sessions) -> Carry:
    """One round of a mailer."""

    def carry(section: MailSection, mailer: Mailer | None = None, password: str = PASSWORD) -> Mailer:
        mailer = mailer or Mailer(section, password, SITE, sessions, no_listener)
        mailer.round()
        return mailer

    return carry


@pytest.fixture
def row(sessions: Sessions) -> Callable[[uuid.UUID], Mail]:
    def row(mail_id: uuid.UUID) -> Mail:
        with sessions() as session:
            return session.get_one(Mail, mail_id)

    return row


def due(sessions: Sessions) -> None:
    with sessions.begin() as session:
        session.execute(update(Mail).values(next_try_at=func.clock_timestamp()))


def test_a_mail_arrives_as_it_was_written(
    server: MailServer, write: Write, carry: Carry, row: Callable[[uuid.UUID], Mail]
) -> None:
    mail_id = write()
    carry(settings(server))
    (mail,) = server.mails
    assert str(mail["From"]) == "Labfleet <labfleet@lab.example>"
    assert (str(mail["To"]), mail["Subject"]) == ("ada@lab.example", "Größe")
    assert mail["Message-ID"] == f"<{mail_id}@lab.example>"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["Date"].datetime == row(mail_id).created_at.replace(microsecond=0)
    assert server.text() == "Hello,\n\nall is wéll.\n"
    kept = row(mail_id)
    assert kept.sent_at and kept.tries == 1
    assert kept.body == "", "its link must not stay behind"


def test_several_go_in_one_round_and_none_twice(server: MailServer, write: Write, carry: Carry) -> None:
    for number in range(5):
        write(f"user{number}@lab.example")
    carry(settings(server))
    carry(settings(server))
    assert sorted(mail["To"] for mail in server.mails) == [f"user{n}@lab.example" for n in range(5)]


def test_nothing_is_written_when_the_transaction_fails(sessions: Sessions) -> None:
    with pytest.raises(RuntimeError), sessions.begin() as session:
        outbox.write(session, Kind.TEST, "ada@lab.example", texts.test(SITE, "root"))
        raise RuntimeError
    with sessions() as session:
        assert session.scalars(select(Mail)).all() == []


# The server of the tests does not see that it is behind TLS from the first byte on.
@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS:UserWarning")
@pytest.mark.parametrize("starttls", [True, False])
def test_encrypted_and_signed_in(
    starttls: bool, tmp_path: Path, write: Write, carry: Carry, row: Callable[[uuid.UUID], Mail]
) -> None:
    context, trusted = certificate(tmp_path)
    mail_id = write()
    with MailServer(tls=context, starttls=starttls, auth=True) as server:
        security = "starttls" if starttls else "tls"
        carry(settings(server, security=security, user=USER, ca_file=trusted))
        assert row(mail_id).sent_at, row(mail_id).last_error
        assert server.encrypted == [True]


def test_a_wrong_password_is_told_and_tried_again(
    tmp_path: Path, write: Write, carry: Carry, row: Callable[[uuid.UUID], Mail]
) -> None:
    context, trusted = certificate(tmp_path)
    mail_id = write()
    with MailServer(tls=context, auth=True) as server:
        section = settings(server, security="starttls", user=USER, ca_file=trusted)
        carry(section, password="another")
        kept = row(mail_id)
        assert kept.last_error is not None and kept.last_error.startswith("535")
        assert (kept.sent_at, kept.given_up_at, kept.tries) == (None, None, 1)
        assert "another" not in kept.last_error


def test_a_server_without_a_trusted_certificate_is_sent_nothing(
    tmp_path: Path, write: Write, carry: Carry, row: Callable[[uuid.UUID], Mail]
) -> None:
    context, _ = certificate(tmp_path)
    mail_id = write()
    with MailServer(tls=context) as server:
        carry(settings(server, security="starttls"))
        assert server.mails == []
    assert "CERTIFICATE_VERIFY_FAILED" in (row(mail_id).last_error or "")


def test_a_server_without_encryption_is_sent_nothing_where_it_is_wanted(
    server: MailServer, write: Write, carry: Carry, row: Callable[[uuid.UUID], Mail]
) -> None:
    mail_id = write()
    carry(settings(server, security="starttls"))
    assert server.mails == []
    assert "STARTTLS" in (row(mail_id).last_error or "")


def test_what_is_refused_for_good_is_given_up_at_once(
    server: MailServer, write: Write, carry: Carry, row: Callable[[uuid.UUID], Mail]
) -> None:
    bad, good = write("nobody@lab.example"), write()
    server.answers.append("550 5.1.1 No such user here")
    carry(settings(server))
    kept = row(bad)
    assert kept.given_up_at and kept.last_error == "550 5.1.1 No such user here" and kept.body == ""
    assert row(good).sent_at, "the others go on"


def test_what_fails_for_a_while_is_tried_ever_later_and_given_up_at_last(
    server: MailServer,
    write: Write,
    carry: Carry,
    row: Callable[[uuid.UUID], Mail],
    sessions: Sessions,
) -> None:
    mail_id = write()
    server.answers += ["451 4.7.1 Greylisted"] * 3
    waits = []
    for _ in range(3):
        carry(settings(server))
        kept = row(mail_id)
        waits.append(round((kept.next_try_at - kept.created_at).total_seconds() / 60))
        due(sessions)
    assert waits[:2] == [1, 2]
    assert kept.given_up_at and kept.tries == 3 and kept.last_error == "451 4.7.1 Greylisted"
    assert server.mails == []


def test_greylisting_ends(server: MailServer, write: Write, carry: Carry, sessions: Sessions) -> None:
    mail_id = write()
    server.answers.append("451 4.7.1 Greylisted")
    carry(settings(server))
    due(sessions)
    carry(settings(server))
    assert [mail["Message-ID"] for mail in server.mails] == [f"<{mail_id}@lab.example>"]


def test_a_server_that_is_back_gets_what_waited(
    server: MailServer, write: Write, carry: Carry, row: Callable[[uuid.UUID], Mail]
) -> None:
    first = write()
    server.away()
    section = settings(server, poll_seconds=0.01)
    mailer = carry(section)
    assert "refused" in (row(first).last_error or "") and row(first).tries == 1
    server.back()
    second = write("grace@lab.example")
    while not server.mails:
        carry(section, mailer)
    carry(section, mailer)
    assert row(first).sent_at and row(second).sent_at, "not after its hour of waiting"


def test_a_slow_server_is_not_waited_for_for_ever(
    server: MailServer, write: Write, carry: Carry, row: Callable[[uuid.UUID], Mail]
) -> None:
    mail_id = write()
    server.wait = 5
    carry(settings(server, timeout_seconds=0.2))
    kept = row(mail_id)
    assert kept.sent_at is None and "timed out" in (kept.last_error or "")


def test_what_is_worth_nothing_any_more_is_not_sent(
    server: MailServer, write: Write, carry: Carry, row: Callable[[uuid.UUID], Mail], sessions: Sessions
) -> None:
    mail_id = write(seconds=3600)
    with sessions.begin() as session:
        session.execute(update(Mail).values(expires_at=func.clock_timestamp() - timedelta(seconds=1)))
    carry(settings(server))
    kept = row(mail_id)
    assert server.mails == [] and kept.given_up_at and kept.body == ""
    assert delivery.EXPIRED in (kept.last_error or "")


def test_a_line_break_makes_no_second_header(
    server: MailServer, write: Write, carry: Carry, row: Callable[[uuid.UUID], Mail]
) -> None:
    bad = write(subject="Hello\r\nBcc: everybody@lab.example")
    worse = write(to="ada@lab.example\nBcc: everybody@lab.example")
    carry(settings(server))
    assert server.mails == []
    assert row(bad).given_up_at and row(worse).given_up_at


def test_what_is_long_over_is_forgotten(
    server: MailServer, write: Write, carry: Carry, sessions: Sessions
) -> None:
    old, young = write(), write()
    carry(settings(server))
    with sessions.begin() as session:
        session.execute(
            update(Mail).where(Mail.id == old).values(sent_at=func.clock_timestamp() - timedelta(days=31))
        )
    carry(settings(server))
    with sessions() as session:
        assert session.scalars(select(Mail.id)).all() == [young]


def test_the_tally_tells_how_mails_go(
    server: MailServer, write: Write, carry: Carry, sessions: Sessions
) -> None:
    with sessions() as session:
        assert outbox.tally(session) == outbox.Tally(0, 0.0, 0, None)
    write()
    server.answers.append("550 No")
    carry(settings(server))
    write()
    with sessions() as session:
        told = outbox.tally(session)
    assert (told.waiting, told.given_up, told.error) == (1, 1, "550 No") and told.late_seconds > 0
