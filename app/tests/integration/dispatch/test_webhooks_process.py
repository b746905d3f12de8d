"""The process `labfleet webhooks` as systemd starts it, with a real database and a real receiver."""

from __future__ import annotations

import json
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator

import pytest
from resident import Residents, database_section, end, wait_for
from sqlalchemy import URL, select, text
from sqlalchemy.orm import Session, sessionmaker
from webhook_receiver import Receiver

from labfleet.config import WebhooksSection
from labfleet.db.models import Delivery, ProtocolVersion, User
from labfleet.jobs import service, verbs
from labfleet.jobs.spec import JobSpec
from labfleet.jobs.webhooks import secret_of

Sessions = sessionmaker[Session]
Start = Callable[..., subprocess.Popen[str]]
# So long that only a notification can be what woke the process.
POLL_SECONDS = 20
LOOPBACK = WebhooksSection.model_validate({"allowed_networks": ["127.0.0.0/8"]})


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def start(residents: Residents, database_url: URL) -> Start:
    """Start a process, and wait until it is ready."""
    credentials = {"database_password": database_url.password or "", "signing_keys": "new\nold"}

    def start(networks: str = '"127.0.0.0/8"', *, wait: bool = True) -> subprocess.Popen[str]:
        settings = f"""
            [web]
            public_url = "https://lab.example"
            {database_section(database_url)}
            [dispatcher]
            database_user = "{database_url.username}"
            runner_urls = ["http://127.0.0.1:9"]
            [webhooks]
            allowed_networks = [{networks}]
            poll_seconds = {POLL_SECONDS}
            first_delay_seconds = 0.1
            tries = 3
            """
        process = residents.start("webhooks", settings, credentials)
        if wait:
            residents.hear(b"READY=1")
        return process

    return start


@pytest.fixture
def end_job(
    sessions: Sessions, user: User, protocol: ProtocolVersion, receiver: Receiver
) -> Callable[[], str]:
    """A job that has come to its end; its id."""

    def end_job() -> str:
        spec = JobSpec(protocol="echo", webhook=f"http://127.0.0.1:{receiver.server_port}/")
        with sessions.begin() as session:
            job_id: uuid.UUID = service.submit(session, user, spec, calls=LOOPBACK).id
            verbs.cancel(session, user, job_id)
        return str(job_id)

    return end_job


def test_it_tells_systemd_calls_at_once_and_ends_cleanly(
    start: Start, residents: Residents, receiver: Receiver, end_job: Callable[[], str], user: User
) -> None:
    early = end_job()
    process = start()
    wait_for(lambda: len(receiver.got) == 1)
    time.sleep(1)  # asleep by now: only the notification can wake it in time
    late = end_job()
    assert wait_for(lambda: len(receiver.got) == 2) < POLL_SECONDS / 2
    residents.hear(b"WATCHDOG=1")
    log = end(process)
    residents.hear(b"STOPPING=1")
    assert [got.told["job"] for got in receiver.got] == [early, late]
    assert all(got.verified(secret_of(user.id, ["new"])) for got in receiver.got)
    assert [line["event"] for line in log] == ["webhooks start", *["webhook called"] * 2, "webhooks end"]
    assert secret_of(user.id, ["new"]) not in json.dumps(log)
    assert f":{receiver.server_port}" not in json.dumps(log)


def test_a_failure_is_tried_again_without_news(
    start: Start, receiver: Receiver, end_job: Callable[[], str], sessions: Sessions
) -> None:
    receiver.status = 500
    process = start()
    end_job()
    assert wait_for(lambda: len(receiver.got) == 3) < POLL_SECONDS / 2
    time.sleep(1)
    end(process)
    assert len(receiver.got) == 3
    with sessions() as session:
        kept = session.scalars(select(Delivery)).one()
    assert (kept.tries, kept.last_status, kept.delivered_at) == (3, 500, None)
    assert kept.given_up_at is not None


def test_killed_while_it_calls_the_call_is_made_again(
    start: Start, receiver: Receiver, end_job: Callable[[], str], sessions: Sessions
) -> None:
    released = threading.Event()
    receiver.before_answer = lambda: released.wait(60)
    process = start()
    job = end_job()
    wait_for(lambda: len(receiver.got) == 1)
    process.kill()
    process.wait()
    released.set()
    process = start()
    wait_for(lambda: len(receiver.got) == 2)
    end(process)
    first, again = receiver.got
    assert first.told["job"] == job
    assert (first.delivery, first.body) == (again.delivery, again.body)
    with sessions() as session:
        kept = session.scalars(select(Delivery)).one()
    assert (kept.tries, kept.last_status) == (1, 204)


def test_two_processes_share_the_work(
    start: Start, receiver: Receiver, end_job: Callable[[], str], sessions: Sessions
) -> None:
    processes = [start(), start()]
    jobs = [end_job() for _ in range(30)]
    wait_for(lambda: len(receiver.got) >= 30)
    time.sleep(1)
    for process in processes:
        end(process)
    assert sorted(got.told["job"] for got in receiver.got) == sorted(jobs)
    with sessions() as session:
        assert {row.tries for row in session.scalars(select(Delivery))} == {1}


def test_it_outlives_the_database(
    start: Start,
    residents: Residents,
    receiver: Receiver,
    end_job: Callable[[], str],
    sessions: Sessions,
) -> None:
    process = start()
    with sessions.begin() as session:
        cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
        session.execute(text(f"{cut} AND pid <> pg_backend_pid()"))
    residents.hear(b"The database is away.")
    end_job()
    wait_for(lambda: len(receiver.got) == 1)
    assert "database away, trying again" in {line["event"] for line in end(process)}


def test_without_a_network_it_says_what_to_set(start: Start) -> None:
    process = start("", wait=False)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "allowed_networks is empty" in told
    assert "webserver_webhook_networks" in told
