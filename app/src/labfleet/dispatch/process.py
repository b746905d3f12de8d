"""The dispatcher process: wake on news or by the clock, repair, place, send, tell systemd, end cleanly."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from types import FrameType

import psycopg
from sqlalchemy import URL, func, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, sessionmaker

from labfleet import systemd
from labfleet.config import (
    OrderSection,
    WebserverSettings,
    credential,
    credential_lines,
    dispatcher_settings,
)
from labfleet.db.engine import database_url, engine_for, session_factory
from labfleet.db.models import OutboxRow
from labfleet.dispatch.batch import Courier, dispatch_batch
from labfleet.dispatch.listener import Listener
from labfleet.dispatch.reconcile import reconcile
from labfleet.dispatch.release import release
from labfleet.dispatch.runner_client import HttpRunner
from labfleet.log import configure, get_logger

_log = get_logger(__name__)
# The longest sleep in one piece: what a SIGTERM waits for at most, and the watchdog's beat.
SLICE = 0.5
RECONNECT = 1.0


class Dispatcher:
    """Carries the outbox until `stop` is called; outlives losses of the database and of the queue tier."""

    def __init__(
        self,
        courier: Courier,
        rules: OrderSection,
        sessions: sessionmaker[Session],
        listen: Callable[[], Listener],
    ) -> None:
        self._courier = courier
        self._section = courier.section
        self._rules = rules
        self._sessions = sessions
        self._listen = listen
        self._stopping = False
        self._reconciled = float("-inf")

    def stop(self) -> None:
        """End after the batch in hand."""
        self._stopping = True

    def run(self) -> None:
        """Work until stopped."""
        while not self._stopping:
            try:
                self._connected()
            except (psycopg.OperationalError, DBAPIError) as error:
                _log.warning("database away, trying again", error=str(error).splitlines()[0])
                systemd.notify("WATCHDOG=1\nSTATUS=The database is away.")
                time.sleep(RECONNECT)

    def _connected(self) -> None:
        listener = self._listen()
        try:
            systemd.notify("READY=1\nSTATUS=Places tasks and carries the outbox.")
            while not self._stopping:
                self.round()
                self._sleep(listener)
        finally:
            listener.close()

    def round(self) -> None:
        """Repair when it is time to, then place and send until the fleet is full and nothing is due."""
        if time.monotonic() - self._reconciled >= self._section.poll_seconds:
            reconcile(self._sessions, self._section, self._rules)
            self._reconciled = time.monotonic()
        while not self._stopping and self._release() + self._batch():
            systemd.notify("WATCHDOG=1")

    def _release(self) -> int:
        with self._sessions() as session, session.begin():
            return release(session, self._rules)

    def _batch(self) -> int:
        with self._sessions() as session, session.begin():
            return dispatch_batch(session, self._courier)

    def _sleep(self, listener: Listener) -> None:
        until = time.monotonic() + min(self._section.poll_seconds, self._next_due())
        while not self._stopping and (left := until - time.monotonic()) > 0:
            systemd.notify("WATCHDOG=1")
            if listener.wait(min(left, SLICE)):
                return

    def _next_due(self) -> float:
        first = select(func.extract("epoch", func.min(OutboxRow.next_try_at) - func.clock_timestamp()))
        with self._sessions() as session:
            seconds = session.scalar(first)
        return float("inf") if seconds is None else max(float(seconds), 0.01)


def main() -> None:
    """The process `labfleet dispatcher`: settings and secrets as in docs/architecture.md."""
    settings = dispatcher_settings()
    configure(settings.log.level)
    url = database_url(settings.database, credential("database_password"), settings.dispatcher.database_user)
    run(settings, url, credential("runner_password"), credential_lines("signing_keys"))


def run(settings: WebserverSettings, url: URL, runner_password: str, keys: Sequence[str]) -> None:
    """Run until SIGTERM or SIGINT."""
    timeout = settings.database.connect_timeout_seconds
    engine = engine_for(url, pool_size=2, connect_timeout=timeout)
    runner = HttpRunner(settings.dispatcher, runner_password)
    courier = Courier(runner, keys, settings.dispatcher)
    dispatcher = Dispatcher(courier, settings.order, session_factory(engine), lambda: Listener(url, timeout))

    def terminate(number: int, frame: FrameType | None) -> None:
        del number, frame
        dispatcher.stop()

    signal.signal(signal.SIGTERM, terminate)
    signal.signal(signal.SIGINT, terminate)
    _log.info("dispatcher starts", runner=settings.dispatcher.runner_url)
    dispatcher.run()
    systemd.notify("STOPPING=1")
    runner.close()
    engine.dispose()
    _log.info("dispatcher ends")
