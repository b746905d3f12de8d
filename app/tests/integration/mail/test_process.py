"""The process `labfleet mailer` as systemd starts it, with a real database and a real mail server."""

from __future__ import annotations

import json
from pathlib import Path

from mail_server import PASSWORD, USER, MailServer, certificate
from resident import Residents, database_section, end, wait_for
from sqlalchemy import URL, Engine
from sqlalchemy.orm import Session, sessionmaker

from labfleet.mail import outbox, texts
from labfleet.mail.outbox import Kind

Sessions = sessionmaker[Session]
# So long that only a notification can be what woke the process.
POLL_SECONDS = 20


def told(url: URL, mail: str) -> str:
    return f"""
        [web]
        public_url = "https://lab.example"
        {database_section(url)}
        user = "{url.username}"
        [dispatcher]
        runner_urls = ["http://127.0.0.1:9"]
        [mail]
        {mail}
        """


def test_it_sends_at_once_and_keeps_its_secrets(
    residents: Residents, engine: Engine, database_url: URL, sessions: Sessions, tmp_path: Path
) -> None:
    del engine
    context, trusted = certificate(tmp_path)
    with MailServer(tls=context, auth=True) as server:
        mail = f"""
            host = "127.0.0.1"
            port = {server.port}
            user = "{USER}"
            sender = "labfleet@lab.example"
            ca_file = "{trusted}"
            poll_seconds = {POLL_SECONDS}
            """
        secrets = {"database_password": database_url.password or "", "smtp_password": PASSWORD}
        process = residents.start("mailer", told(database_url, mail), secrets)
        residents.hear(b"READY=1")
        with sessions.begin() as session:
            said = texts.test("https://lab.example", "root")
            outbox.write(session, Kind.TEST, "ada@lab.example", said)
        assert wait_for(lambda: bool(server.mails)) < POLL_SECONDS
        log = json.dumps(end(process))
    assert "mail sent" in log
    assert PASSWORD not in log and "ada@lab.example" not in log


def test_without_a_server_it_says_what_to_set(residents: Residents, database_url: URL) -> None:
    process = residents.start("mailer", told(database_url, ""), {"database_password": "x"})
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "webserver_mail_host" in said
