"""The process `labfleet mailer`: hand mails to the SMTP server."""

from __future__ import annotations

import time
from collections.abc import Callable

from sqlalchemy import URL
from sqlalchemy.orm import Session, sessionmaker

from labfleet import systemd
from labfleet.config import MailSection, WebserverSettings, credential, web_settings
from labfleet.db.engine import database_url, engine_for, session_factory
from labfleet.dispatch.listener import Listener
from labfleet.dispatch.loop import SLICE, Loop
from labfleet.errors import ConfigError
from labfleet.log import configure, get_logger
from labfleet.mail import delivery, metrics, told
from labfleet.mail.outbox import CHANNEL, Post
from labfleet.mail.server import Server, ServerAway

_log = get_logger(__name__)
PURGE_SECONDS = 3600.0


class Mailer(Loop):
    """Carries mails until `stop` is called. A server that is away is left alone for a moment."""

    def __init__(
        self,
        section: MailSection,
        password: str | None,
        site: str,
        sessions: sessionmaker[Session],
        listen: Callable[[], Listener],
    ) -> None:
        super().__init__("Sends mails.", section.poll_seconds, listen)
        self._section = section
        self._password = password
        self._site = site
        self._sessions = sessions
        self._purged = float("-inf")
        self._away = 0
        self._unreached = False
        self._resting_until = 0.0

    def round(self) -> None:
        """Send what is due, in one conversation with the server."""
        self._look_after()
        self._tell()
        if time.monotonic() < self._resting_until or self._due() > 0:
            return
        try:
            with self._reached() as server:
                while not self.stopping and self._one(server):
                    systemd.notify("WATCHDOG=1")
            self._away = 0
        except ServerAway as error:
            self._rest(error)

    def next_due(self) -> float:
        """When the next mail is due; not at once, for another process may have it in hand."""
        return max(self._due(), self._resting_until - time.monotonic(), SLICE)

    def _look_after(self) -> None:
        with self._sessions.begin() as session:
            delivery.expire(session)
            metrics.OVERDUE.set(max(-delivery.next_due(session), 0.0))
            if time.monotonic() - self._purged >= PURGE_SECONDS:
                delivery.purge(session, self._section)
                self._purged = time.monotonic()
        metrics.ROUND.set(time.time())

    def _tell(self) -> None:
        """Make mails of the ends of jobs."""
        with self._sessions() as session:
            waiting = told.due(session, self._section)
        for user_id in waiting:
            with self._sessions.begin() as session:
                told.tell(session, Post(self._section, self._site), user_id)

    def _due(self) -> float:
        with self._sessions() as session:
            return delivery.next_due(session)

    def _reached(self) -> Server:
        """The server, connected. What it could not take while it was away is due now."""
        server = Server(self._section, self._password, self._site)
        try:
            server.open()
        except ServerAway as error:
            self._unreached = True
            with self._sessions.begin() as session:
                delivery.postpone_due(session, error, self._section)
            raise
        if self._unreached:
            with self._sessions.begin() as session:
                delivery.hurry(session)
            self._unreached = False
        return server

    def _one(self, server: Server) -> bool:
        """Send one mail; whether there was one."""
        away: ServerAway | None = None
        with self._sessions.begin() as session:
            row = delivery.take(session)
            if row is None:
                return False
            try:
                delivery.deliver(session, row, server, self._section, self._site)
            except ServerAway as error:
                delivery.postpone(session, row, error, self._section)
                away = error
        if away is not None:
            raise away
        return True

    def _rest(self, error: ServerAway) -> None:
        """Leave the server alone for a moment: mails that are written meanwhile wait for that."""
        self._away += 1
        seconds = min(self._section.delay(self._away), self._section.poll_seconds)
        self._resting_until = time.monotonic() + seconds
        _log.warning("mail server away", error=str(error), again_in_seconds=seconds)


def main() -> None:
    """The process `labfleet mailer`: settings and secrets as in docs/architecture.md."""
    settings = web_settings()
    configure(settings.log.level)
    if not settings.mail.host:
        raise ConfigError(
            "[mail] host is empty, so there is no server for mails.",
            hint="Set webserver_mail_host and run playbooks/webserver.yml.",
        )
    password = credential("smtp_password") if settings.mail.user else None
    run(settings, database_url(settings.database, credential("database_password")), password)


def run(settings: WebserverSettings, url: URL, password: str | None) -> None:
    """Run until SIGTERM or SIGINT."""
    timeout = settings.database.connect_timeout_seconds
    engine = engine_for(url, pool_size=2, connect_timeout=timeout)
    mailer = Mailer(
        settings.mail,
        password,
        settings.web.public_url,
        session_factory(engine),
        lambda: Listener(url, timeout, CHANNEL),
    )
    mailer.stop_on_signals()
    _log.info("mailer starts", server=settings.mail.host)
    mailer.run()
    systemd.notify("STOPPING=1")
    engine.dispose()
    _log.info("mailer ends")
