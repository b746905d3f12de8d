"""The process `labfleet data`: make previews of the tables that arrive.

Whatever somebody sends is read by a process of its own, which is given no secret
(`labfleet.datasets.preview`); this one takes the work from the database and writes down what came of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from sqlalchemy import URL
from sqlalchemy.orm import Session, sessionmaker

from labfleet import systemd
from labfleet.config import DataSection, WebserverSettings, credential, dispatcher_settings
from labfleet.datasets import previews
from labfleet.datasets.apart import Broken, Interrupted
from labfleet.datasets.store import BlobStore
from labfleet.db.engine import database_url, engine_for, session_factory
from labfleet.dispatch.listener import Listener
from labfleet.dispatch.loop import SLICE, Loop
from labfleet.errors import NotFound
from labfleet.log import configure, get_logger
from labfleet.sources import metrics
from labfleet.sources.viewer import Outcome, clear, look_through

_log = get_logger(__name__)
# How much longer a row is ours than its process may take: to write down what came of it.
SLACK_SECONDS = 60
AGAIN_SECONDS = 5


class Previews(Loop):
    """Makes previews, one at a time, until `stop` is called."""

    def __init__(
        self,
        store: BlobStore,
        section: DataSection,
        sessions: sessionmaker[Session],
        listen: Callable[[], Listener],
    ) -> None:
        super().__init__("Looks through tables.", section.poll_seconds, listen)
        self._store = store
        self._section = section
        self._sessions = sessions

    def round(self) -> None:
        """Make previews until none is due."""
        while not self.stopping and self._one():
            systemd.notify("WATCHDOG=1")

    def _one(self) -> bool:
        with self._sessions.begin() as session:
            metrics.OVERDUE.set(max(-previews.next_due(session), 0.0))
            taken = previews.take(session, self._section.preview_seconds + SLACK_SECONDS, self._section.tries)
        metrics.ROUND.set(time.time())
        if taken is not None:
            self._make(taken)
        return taken is not None

    def _make(self, taken: previews.Taken) -> None:
        try:
            with metrics.SECONDS.time():
                outcome = look_through(self._store, taken.sha256, taken.form, self._section, self._beat)
        except (Interrupted, Broken, OSError) as reason:
            interrupted = isinstance(reason, Interrupted)
            metrics.TO_BE_TRIED_AGAIN.inc()
            _log.warning(
                "preview broken off", dataset=str(taken.dataset_id), reason=str(reason), tries=taken.number
            )
            with self._sessions.begin() as session:
                previews.hand_back(
                    session, taken, 0 if interrupted else AGAIN_SECONDS, counts=not interrupted
                )
            return
        except NotFound as error:
            outcome = Outcome(None, error.detail)
        (metrics.FAILED if outcome.result is None else metrics.DONE).inc()
        with self._sessions.begin() as session:
            kept = previews.settle(session, taken, outcome.result, outcome.message)
        # Without the message, which may quote the file.
        event = "preview made" if outcome.result is not None else "no preview possible"
        _log.info(event, dataset=str(taken.dataset_id), kept=kept)

    def _beat(self) -> bool:
        systemd.notify("WATCHDOG=1")
        metrics.ROUND.set(time.time())
        return not self.stopping

    def next_due(self) -> float:
        """When the next preview is due; not at once, for another process may have it in hand."""
        with self._sessions() as session:
            return max(previews.next_due(session), SLICE)


def main() -> None:
    """The process `labfleet data`: settings and secrets as in docs/architecture.md."""
    settings = dispatcher_settings()
    configure(settings.log.level)
    url = database_url(settings.database, credential("database_password"), settings.dispatcher.database_user)
    run(settings, url)


def run(settings: WebserverSettings, url: URL) -> None:
    """Run until SIGTERM or SIGINT."""
    timeout = settings.database.connect_timeout_seconds
    engine = engine_for(url, pool_size=2, connect_timeout=timeout)
    store = BlobStore(settings.web.store)
    loop = Previews(
        store, settings.data, session_factory(engine), lambda: Listener(url, timeout, previews.CHANNEL)
    )
    loop.stop_on_signals()
    clear()
    _log.info("data starts")
    loop.run()
    systemd.notify("STOPPING=1")
    engine.dispose()
    _log.info("data ends")
