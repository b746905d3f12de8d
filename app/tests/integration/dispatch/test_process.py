"""The process `labfleet dispatcher` as systemd starts it, with a real database and real HTTP."""

from __future__ import annotations

import json
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from resident import Residents, database_section, end, wait_for
from sqlalchemy import URL, func, select, text
from sqlalchemy.orm import Session, sessionmaker

from labfleet.db.models import EventRow, FleetSample, OutboxRow
from labfleet.jobs import attempts, finishing
from labfleet.jobs.finishing import Ending
from labfleet.jobs.states import Failure, Outcome

Sessions = sessionmaker[Session]
Start = Callable[[], subprocess.Popen[str]]

# So long that only a notification can be what woke the process.
POLL_SECONDS = 20


class QueueTier(ThreadingHTTPServer):
    """Confirms what it gets, or answers 503 while `away`."""

    away = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.got: list[dict[str, Any]] = []


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: QueueTier

    def do_POST(self) -> None:
        messages = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["messages"]
        if not self.server.away:
            self.server.got += messages
        results = [{"task": m["task"], "attempt": m["attempt"], "status": "confirmed"} for m in messages]
        payload = json.dumps({"results": results}).encode()
        self.send_response(503 if self.server.away else 200)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def queue() -> Iterator[QueueTier]:
    server = QueueTier()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def start(residents: Residents, database_url: URL, queue: QueueTier) -> Start:
    """Start the process, and wait until it is ready."""
    credentials = {
        "database_password": database_url.password or "",
        "runner_password": "secret",
        "signing_keys": "new\nold",
    }
    settings = f"""
        [web]
        public_url = "https://127.0.0.1"
        {database_section(database_url)}
        [dispatcher]
        database_user = "{database_url.username}"
        runner_urls = ["http://127.0.0.1:{queue.server_port}"]
        backoff_max_seconds = 0.2
        poll_seconds = {POLL_SECONDS}
        """

    def start() -> subprocess.Popen[str]:
        process = residents.start("dispatcher", settings, credentials)
        residents.hear(b"READY=1")
        return process

    return start


def test_it_tells_systemd_sends_at_once_and_ends_cleanly(
    start: Start,
    residents: Residents,
    queue: QueueTier,
    submit: Callable[[], uuid.UUID],
    sessions: Sessions,
    make_worker: Callable[..., str],
) -> None:
    make_worker("w1", slots=9, cores=9)
    early = submit()
    process = start()
    wait_for(lambda: len(queue.got) == 1)
    time.sleep(0.2)  # asleep by now: only the notification can wake it in time
    late = submit()
    assert wait_for(lambda: len(queue.got) == 2) < POLL_SECONDS
    residents.hear(b"WATCHDOG=1")
    log = end(process)
    residents.hear(b"STOPPING=1")
    assert [message["task"] for message in queue.got] == [str(early), str(late)]
    with sessions() as session:
        assert session.scalar(select(func.count()).select_from(OutboxRow)) == 0
        dispatched = select(func.count()).where(EventRow.event == "dispatched")
        assert session.scalar(dispatched) == 2
        assert session.scalar(select(func.count()).select_from(FleetSample))
    assert {line["event"] for line in log} == {"dispatcher starts", "batch sent", "dispatcher ends"}
    assert "secret" not in json.dumps(log)


def test_it_outlives_the_queue_tier_and_the_database(
    start: Start,
    queue: QueueTier,
    submit: Callable[[], uuid.UUID],
    sessions: Sessions,
    make_worker: Callable[..., str],
) -> None:
    make_worker("w1", slots=9, cores=9)
    queue.away = True
    process = start()
    first = submit()
    time.sleep(0.5)
    with sessions.begin() as session:
        cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
        session.execute(text(f"{cut} AND pid <> pg_backend_pid()"))
    queue.away = False
    second = submit()
    wait_for(lambda: {m["task"] for m in queue.got} >= {str(first), str(second)})
    assert process.poll() is None
    # Whether it says that the database was away depends on who notices: the pool is silent, the listener not.
    assert "batch not sent" in {line["event"] for line in end(process)}


def test_a_slot_that_gets_free_is_filled_at_once(
    start: Start,
    queue: QueueTier,
    submit: Callable[[], uuid.UUID],
    sessions: Sessions,
    make_worker: Callable[..., str],
) -> None:
    make_worker("w1", slots=1)
    first, second = submit(), submit()
    process = start()
    wait_for(lambda: len(queue.got) == 1)
    with sessions.begin() as session:
        attempts.claim(session, first, 1, "w1", "c1", lease_seconds=60)
    time.sleep(0.3)
    assert len(queue.got) == 1
    with sessions.begin() as session:
        finishing.finish(session, first, 1, Ending(Outcome.SUCCESS))
    assert wait_for(lambda: len(queue.got) == 2) < POLL_SECONDS
    end(process)
    assert [(m["task"], m["worker"]) for m in queue.got] == [(str(first), "w1"), (str(second), "w1")]


@pytest.mark.parametrize("delay", [0.3, 1.2])
def test_a_task_that_is_to_wait_after_a_failure_begins_in_time(
    start: Start,
    queue: QueueTier,
    submit: Callable[[], uuid.UUID],
    sessions: Sessions,
    make_worker: Callable[..., str],
    delay: float,
) -> None:
    make_worker("w1", slots=1)
    failed = submit()
    process = start()
    wait_for(lambda: len(queue.got) == 1)
    with sessions.begin() as session:
        attempts.claim(session, failed, 1, "w1", "c1", lease_seconds=60)
    ended = time.monotonic()
    with sessions.begin() as session:
        ending = Ending(Outcome.FAILED, Failure.SYSTEM, message="no disk")
        finishing.finish(session, failed, 1, ending, retry_seconds=delay)
    # Nothing tells the process that the time has come, and it looks by itself after POLL_SECONDS only.
    wait_for(lambda: len(queue.got) == 2)
    assert delay * 0.8 < time.monotonic() - ended < POLL_SECONDS / 2
    end(process)
