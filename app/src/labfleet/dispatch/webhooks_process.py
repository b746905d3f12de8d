"""The process `labfleet webhooks`: call the webhooks of jobs that have ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from sqlalchemy import URL
from sqlalchemy.orm import Session, sessionmaker

from labfleet import systemd
from labfleet.config import WebserverSettings, credential, credential_lines, dispatcher_settings
from labfleet.db.engine import database_url, engine_for, session_factory
from labfleet.dispatch import webhooks_metrics as metrics
from labfleet.dispatch.caller import Caller
from labfleet.dispatch.listener import Listener
from labfleet.dispatch.loop import SLICE, Loop
from labfleet.dispatch.webhooks import Sender, deliver_batch, next_due
from labfleet.errors import ConfigError
from labfleet.jobs.webhooks import CHANNEL
from labfleet.log import configure, get_logger

_log = get_logger(__name__)


class Deliveries(Loop):
    """Carries deliveries until `stop` is called."""

    def __init__(
        self, sender: Sender, sessions: sessionmaker[Session], listen: Callable[[], Listener]
    ) -> None:
        super().__init__("Calls webhooks.", sender.section.poll_seconds, listen)
        self._sender = sender
        self._sessions = sessions

    def round(self) -> None:
        """Make calls until none is due."""
        while not self.stopping and self._batch():
            systemd.notify("WATCHDOG=1")

    def _batch(self) -> int:
        with self._sessions() as session, session.begin():
            metrics.OVERDUE.set(max(-next_due(session), 0.0))
            calls = deliver_batch(session, self._sender)
        metrics.ROUND.set(time.time())
        return calls

    def next_due(self) -> float:
        """When the next delivery is due; not at once, for another process may have it in hand."""
        with self._sessions() as session:
            return max(next_due(session), SLICE)


def main() -> None:
    """The process `labfleet webhooks`: settings and secrets as in docs/architecture.md."""
    settings = dispatcher_settings()
    configure(settings.log.level)
    if not settings.webhooks.allowed_networks:
        raise ConfigError(
            "[webhooks] allowed_networks is empty, so there is nothing to call.",
            hint="Set webserver_webhook_networks and run playbooks/webserver.yml.",
        )
    url = database_url(settings.database, credential("database_password"), settings.dispatcher.database_user)
    run(settings, url, credential_lines("signing_keys"))


def run(settings: WebserverSettings, url: URL, keys: Sequence[str]) -> None:
    """Run until SIGTERM or SIGINT."""
    timeout = settings.database.connect_timeout_seconds
    engine = engine_for(url, pool_size=2, connect_timeout=timeout)
    caller = Caller(settings.webhooks)
    sender = Sender(caller, keys, settings.web.public_url, settings.webhooks)
    deliveries = Deliveries(sender, session_factory(engine), lambda: Listener(url, timeout, CHANNEL))
    deliveries.stop_on_signals()
    _log.info("webhooks start")
    deliveries.run()
    systemd.notify("STOPPING=1")
    caller.close()
    engine.dispose()
    _log.info("webhooks end")
