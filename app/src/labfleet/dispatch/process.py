"""The dispatcher process: repair, place, send."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from sqlalchemy import URL, text
from sqlalchemy.orm import Session, sessionmaker

from labfleet import crash, systemd
from labfleet.config import (
    OrderSection,
    WebserverSettings,
    credential,
    credential_lines,
    dispatcher_settings,
)
from labfleet.db.engine import database_url, engine_for, session_factory
from labfleet.dispatch import metrics
from labfleet.dispatch.batch import Courier, dispatch_batch
from labfleet.dispatch.listener import Listener
from labfleet.dispatch.loop import Loop
from labfleet.dispatch.recent import Recent
from labfleet.dispatch.reconcile import reconcile
from labfleet.dispatch.release import release
from labfleet.dispatch.runner_client import HttpRunner
from labfleet.jobs import samples
from labfleet.jobs.order import WAITS
from labfleet.log import configure, get_logger
from labfleet.metrics import counted

_log = get_logger(__name__)
# Planned anew each time: a plan from when the table was small reads all of it when it has grown.
_PLAN_ANEW = text("SET LOCAL plan_cache_mode = force_custom_plan")
# A task whose time has come is left out, unless it came after the last look: a full fleet must not be asked
# for room again and again. The inner question has no other condition, so that no index of what waits can
# answer it: old statistics may make one look small that has 100,000 tasks.
_NEXT_DUE = text(
    f"""
    SELECT extract(epoch FROM least(
        (SELECT min(next_try_at) FROM outbox),
        (
            SELECT not_before FROM (
                SELECT state, ready, held, placed_on, not_before FROM tasks
                WHERE not_before > statement_timestamp() - make_interval(secs => :since)
                ORDER BY not_before
                OFFSET 0
            ) AS timed
            WHERE {WAITS}
            LIMIT 1
        )
    ) - clock_timestamp())
    """  # noqa: S608 - constants of this package
)


class Dispatcher(Loop):
    """Carries the outbox until `stop` is called; outlives losses of the database and of the queue tier."""

    def __init__(
        self,
        courier: Courier,
        rules: OrderSection,
        sessions: sessionmaker[Session],
        listen: Callable[[], Listener],
    ) -> None:
        super().__init__("Places tasks and carries the outbox.", courier.section.poll_seconds, listen)
        self._courier = courier
        self._section = courier.section
        self._rules = rules
        # What waits for that long, and then runs for that long, is not short.
        self._recent = Recent(2 * rules.ahead_seconds)
        self._sessions = sessions
        self._reconciled = self._sampled = float("-inf")
        self._looked = time.monotonic()

    def round(self) -> None:
        """Repair when it is time to, then place and send until the fleet is full and nothing is due."""
        if time.monotonic() - self._reconciled >= self._section.poll_seconds:
            lapsed, stranded = reconcile(self._sessions, self._section, self._rules)
            metrics.LAPSED.inc(lapsed)
            metrics.RESENT.inc(stranded)
            metrics.ROUND.set(time.time())
            self._reconciled = time.monotonic()
        if time.monotonic() - self._sampled >= samples.EVERY_SECONDS:
            with self._sessions.begin() as session:
                samples.take(session, self._rules)
            self._sampled = time.monotonic()
        self._looked = time.monotonic()
        while not self.stopping and self._release() + self._batch():
            systemd.notify("WATCHDOG=1")

    def _release(self) -> int:
        with self._sessions() as session, session.begin():
            placed = release(session, self._rules, self._recent)
            if placed:
                crash.point("release_before_commit")
        if placed:
            crash.point("release_after_commit")
            metrics.PLACED.inc(placed)
        return placed

    def _batch(self) -> int:
        with self._sessions() as session, session.begin():
            sent = dispatch_batch(session, self._courier)
        if sent:
            crash.point("dispatch_after_commit")
        return sent

    def next_due(self) -> float:
        """When the next row of the outbox is due, or a task may begin that was to wait (after a failure)."""
        with self._sessions() as session:
            return next_due(session, time.monotonic() - self._looked)


def next_due(session: Session, since: float) -> float:
    """Seconds until something is due, or infinity; a task counts for `since` seconds after its time."""
    session.execute(_PLAN_ANEW)
    seconds = session.scalar(_NEXT_DUE, {"since": since})
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
    sessions = session_factory(engine)
    dispatcher = Dispatcher(courier, settings.order, sessions, lambda: Listener(url, timeout))
    dispatcher.stop_on_signals()
    _log.info("dispatcher starts", runners=settings.dispatcher.runner_urls)
    watcher = metrics.Watcher(sessions, settings.order)
    if counted():
        watcher.start()
    dispatcher.run()
    watcher.stop()
    systemd.notify("STOPPING=1")
    runner.close()
    engine.dispose()
    _log.info("dispatcher ends")
