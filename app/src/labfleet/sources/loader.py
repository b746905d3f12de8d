"""The process `labfleet loader`: have sources fetched, and keep what comes.

It takes a fetch from the database, has the fetcher (`labfleet.fetching`, another user without any secret) do
it, and puts what comes into the store in the way of an upload. It talks to nothing but database and fetcher,
and never looks into data that it carries; protocols are judged as pushes are (`labfleet.sources.protocols`).
"""

from __future__ import annotations

import json
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, sessionmaker

from labfleet import systemd
from labfleet.config import SourcesSection, WebserverSettings, credential, credential_lines, web_settings
from labfleet.datasets.store import BlobStore
from labfleet.db.engine import database_url, engine_for, session_factory
from labfleet.dispatch.listener import Listener
from labfleet.dispatch.loop import SLICE, Loop
from labfleet.errors import LabfleetError
from labfleet.fetching.handlers.base import FetchFailed
from labfleet.fetching.wire import Answer, Json
from labfleet.jobs.joining import Archives, sweep
from labfleet.log import configure, get_logger
from labfleet.protocols.store import ProtocolStore
from labfleet.sealing import Box
from labfleet.sources import credentials, fetches, service
from labfleet.sources import loader_metrics as metrics
from labfleet.sources.protocols import Importer
from labfleet.sources.vault import Vault
from labfleet.users import second_factor

_log = get_logger(__name__)
SILENT_SECONDS = 60
"""The fetcher says each second that it is at work: when it says nothing for so long it is gone."""
TELL_SECONDS = 1.0
STOPPING_SECONDS = 20
HANDLERS_SECONDS = 5.0
RENEW_SECONDS = 3600.0


class Stopped(Exception):
    """The loader ends; another takes the fetch up."""


class Fetches(Loop):
    """Carries fetches, `at_once` at a time, until `stop` is called."""

    def __init__(
        self,
        store: BlobStore,
        importer: Importer,
        section: SourcesSection,
        sessions: sessionmaker[Session],
        *,
        vault: Vault,
        second_factors: Box,
        listen: Callable[[], Listener],
    ) -> None:
        super().__init__("Carries fetches.", section.poll_seconds, listen)
        self._carrier = Carrier(
            store, importer, section, sessions, vault=vault, stopping=lambda: self.stopping
        )
        self._vault = vault
        self._second_factors = second_factors
        self._archives = Archives(store.root)
        self._renew_at = 0.0
        self._section = section
        self._sessions = sessions
        self._busy: dict[uuid.UUID, threading.Thread] = {}
        self._handlers_known = False

    def round(self) -> None:
        """Begin what is due, as far as there is room."""
        if not self._handlers_known:
            self._handlers_known = self._carrier.learn_handlers()
        if time.monotonic() >= self._renew_at:
            renew_sealed(self._sessions, self._vault, self._second_factors)
            sweep(self._sessions, self._archives)
            self._renew_at = time.monotonic() + RENEW_SECONDS
        while not self.stopping and self._room() and self._one():
            systemd.notify("WATCHDOG=1")

    def _room(self) -> bool:
        return len(self._busy) < self._section.at_once

    def _one(self) -> bool:
        with self._sessions.begin() as session:
            metrics.OVERDUE.set(max(-fetches.next_due(session), 0.0))
            taken = fetches.take(session, self._section.tries)
        metrics.ROUND.set(time.time())
        if taken is None:
            return False
        self._busy[taken.fetch_id] = threading.Thread(target=self._carry, args=[taken])
        self._busy[taken.fetch_id].start()
        return True

    def _carry(self, taken: fetches.Taken) -> None:
        try:
            self._carrier.carry(taken)
        finally:
            del self._busy[taken.fetch_id]
            self._wake()

    def _wake(self) -> None:
        """There is room for the next one. Without the database the loop looks by itself."""
        with suppress(DBAPIError), self._sessions.begin() as session:
            fetches.wake(session)

    def next_due(self) -> float:
        """When there is something to do; where all hands are full, the end of a fetch is told."""
        if not self._room():
            return float("inf")
        with self._sessions() as session:
            due = max(fetches.next_due(session), SLICE)
        return due if self._handlers_known else min(due, HANDLERS_SECONDS)

    def finish(self) -> None:
        """Wait for what is under way, which ends by itself when `stopping`."""
        until = time.monotonic() + STOPPING_SECONDS
        for thread in list(self._busy.values()):
            thread.join(max(until - time.monotonic(), 0))


class Carrier:
    """Carries one fetch at a time, for each thread that asks."""

    def __init__(
        self,
        store: BlobStore,
        importer: Importer,
        section: SourcesSection,
        sessions: sessionmaker[Session],
        *,
        vault: Vault,
        stopping: Callable[[], bool],
    ) -> None:
        self._importer = importer
        self._vault = vault
        self._store = store
        self._section = section
        self._sessions = sessions
        self._stopping = stopping

    def learn_handlers(self) -> bool:
        """Note which handlers the fetcher has; whether it could be asked."""
        try:
            with self._asked({"asked": "handlers"}) as connection:
                answer = Answer(connection, lambda event: None)
                answer.begin()
        except (OSError, FetchFailed) as error:
            _log.warning("the fetcher can't be asked, trying again", error=str(error))
            return False
        with self._sessions.begin() as session:
            service.put_handlers(session, answer.end or {})
        return True

    def carry(self, taken: fetches.Taken) -> None:
        """Do one fetch, and write down what came of it."""
        about = {"source": str(taken.source_id), "fetch": str(taken.fetch_id)}
        try:
            with metrics.SECONDS.time():
                changed, size = self._load(taken)
        except fetches.Lost:
            _log.info("fetch cancelled", **about)
        except Stopped:
            self._settle(fetches.hand_back, taken)
        except (FetchFailed, LabfleetError, OSError) as error:
            self._failed(taken, error)
        except DBAPIError as error:
            # It is taken again when its time is over.
            _log.warning("database away", error=str(error).splitlines()[0], **about)
        else:
            (metrics.CHANGED if changed else metrics.UNCHANGED).inc()
            metrics.BYTES.inc(size)
            _log.info("fetch loaded", changed=changed, bytes=size, **about)

    def _load(self, taken: fetches.Taken) -> tuple[bool, int]:
        opened = credentials.opened(self._vault, taken.sealed, taken.source_id, taken.definition)
        request = {**taken.definition, "credentials": opened}
        with self._asked(request) as connection:
            answer = Answer(connection, Teller(self._sessions, taken, self._stopping))
            answer.begin()
            if taken.definition["format"] == service.PROTOCOL:
                return self._importer.take(taken, answer)
            with self._sessions.begin() as session:  # it begins when all has arrived
                blob = self._store.put(
                    answer,
                    limit=self._section.disk_bytes,
                    accept=lambda blob: fetches.claim(session, taken, blob),
                )
                return fetches.succeed(session, taken, blob, answer.end or {}), blob.size

    def _failed(self, taken: fetches.Taken, error: Exception) -> None:
        passing = isinstance(error, OSError) or (isinstance(error, FetchFailed) and error.passing)
        again = taken.number < self._section.tries and passing
        message = error.detail if isinstance(error, LabfleetError) else str(error)
        if isinstance(error, OSError):
            message = "The part of Labfleet that fetches is away."
        delay = self._section.retry_seconds * 2 ** (taken.number - 1) if again else None
        (metrics.TO_BE_TRIED_AGAIN if again else metrics.FAILED).inc()
        self._settle(lambda session, taken: fetches.fail(session, taken, message, delay), taken)
        # Without the message, which may tell what a user's source is.
        event = "fetch broken off" if again else "fetch failed"
        _log.info(event, source=str(taken.source_id), fetch=str(taken.fetch_id), tries=taken.number)

    def _settle(self, settle: Callable[[Session, fetches.Taken], None], taken: fetches.Taken) -> None:
        try:
            with self._sessions.begin() as session:
                settle(session, taken)
        except fetches.Lost:
            _log.info("fetch cancelled", source=str(taken.source_id), fetch=str(taken.fetch_id))

    @contextmanager
    def _asked(self, request: Mapping[str, Any]) -> Iterator[Any]:
        """The fetcher's answer, as a stream of bytes."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(SILENT_SECONDS)
            connection.connect(str(self._section.socket))
            connection.sendall(json.dumps(request).encode() + b"\n")
            with connection.makefile("rb") as stream:
                yield stream


class Teller:
    """Writes down how far a fetch is, now and then, and sees whether it is still wanted."""

    def __init__(
        self, sessions: sessionmaker[Session], taken: fetches.Taken, stopping: Callable[[], bool]
    ) -> None:
        self._sessions = sessions
        self._taken = taken
        self._stopping = stopping
        self._next = 0.0

    def __call__(self, event: Json) -> None:
        """`Lost` or `Stopped` end it."""
        if self._stopping():
            raise Stopped
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + TELL_SECONDS
        with self._sessions.begin() as session:
            fetches.tell(session, self._taken, event.get("progress"), event.get("text"))


def renew_sealed(sessions: sessionmaker[Session], vault: Vault, second_factors: Box) -> None:
    """Seal with the key in use what an old one has sealed, so that the old one can be forgotten."""
    kinds: dict[str, Callable[[Session], tuple[int, Sequence[uuid.UUID]]]] = {
        "credentials of sources": lambda session: credentials.renew(session, vault),
        "second factors of users": lambda session: second_factor.renew(session, second_factors),
    }
    for kind, renew in kinds.items():
        with sessions.begin() as session:
            renewed, lost = renew(session)
        if renewed:
            _log.info(f"{kind} sealed with the new key", count=renewed)
        if lost:
            _log.warning(f"{kind} that no key opens", ids=[str(each) for each in lost])


def main() -> None:
    """The process `labfleet loader`: settings and secrets as in docs/architecture.md."""
    settings = web_settings()
    configure(settings.log.level)
    keys = credential_lines("source_keys")
    run(settings, database_url(settings.database, credential("database_password")), keys)


def run(settings: WebserverSettings, url: URL, keys: Sequence[str]) -> None:
    """Run until SIGTERM or SIGINT. `keys` open what is sealed, the first one seals."""
    vault, second_factors = Vault(keys), second_factor.box(keys)
    timeout = settings.database.connect_timeout_seconds
    engine = engine_for(url, pool_size=2 * settings.sources.at_once + 1, connect_timeout=timeout)
    sessions = session_factory(engine)
    loop = Fetches(
        BlobStore(settings.web.store),
        Importer(ProtocolStore(settings.web.protocols), settings.protocols, sessions),
        settings.sources,
        sessions,
        vault=vault,
        second_factors=second_factors,
        listen=lambda: Listener(url, timeout, fetches.CHANNEL),
    )
    loop.stop_on_signals()
    _log.info("loader starts")
    with suppress(DBAPIError):  # before it says that it is ready: the old key may be forgotten then
        renew_sealed(sessions, vault, second_factors)
    loop.run()
    systemd.notify("STOPPING=1")
    loop.finish()
    engine.dispose()
    _log.info("loader ends")
