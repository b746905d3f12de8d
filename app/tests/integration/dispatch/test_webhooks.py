"""Deliveries of webhooks, from the end of a job to a real HTTP receiver."""

from __future__ import annotations

import datetime
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from prometheus_client import REGISTRY
from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session, sessionmaker
from webhook_receiver import Receiver

from labfleet.config import WebhooksSection
from labfleet.db.models import Delivery, ProtocolVersion, Task, User
from labfleet.dispatch.caller import Call, Caller
from labfleet.dispatch.webhooks import Sender, deliver_batch
from labfleet.errors import WebhooksOff
from labfleet.jobs import service, verbs
from labfleet.jobs.spec import JobSpec
from labfleet.jobs.webhooks import secret_of

Sessions = sessionmaker[Session]
End = Callable[..., uuid.UUID]
Deliver = Callable[..., int]
KEYS = ["the first key", "an older key"]
SITE = "https://lab.example"


def section(**changes: Any) -> WebhooksSection:
    return WebhooksSection.model_validate(
        {"allowed_networks": ["127.0.0.0/8"], "timeout_seconds": 5, "first_delay_seconds": 60, "tries": 3}
        | changes
    )


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def end(sessions: Sessions, user: User, protocol: ProtocolVersion, receiver: Receiver) -> End:
    """`end(url)`: a job with this webhook (else the receiver's) that has come to its end."""

    def end(url: str | None = None) -> uuid.UUID:
        webhook = url or f"http://127.0.0.1:{receiver.server_port}/hook?lab=1"
        spec = JobSpec(protocol="echo", label="Golub", webhook=webhook)
        with sessions.begin() as session:
            job_id = service.submit(session, user, spec, calls=section()).id
            verbs.cancel(session, user, job_id)
        return job_id

    return end


@pytest.fixture
def deliver(sessions: Sessions) -> Iterator[Deliver]:
    """One batch; how many calls there were."""
    callers: list[Caller] = []

    def deliver(settings: WebhooksSection | None = None) -> int:
        settings = settings or section()
        callers.append(Caller(settings))
        with sessions.begin() as session:
            return deliver_batch(session, Sender(callers[-1], KEYS, SITE, settings))

    yield deliver
    for caller in callers:
        caller.close()


@pytest.fixture
def row(sessions: Sessions) -> Callable[[], Delivery]:
    """The only delivery there is, as it is in the database now."""

    def row() -> Delivery:
        with sessions() as session:
            return session.scalars(select(Delivery)).one()

    return row


@pytest.fixture
def make_due(sessions: Sessions) -> Callable[[], float]:
    """Make the only delivery due now; how long it would have waited."""

    def make_due() -> float:
        waits = func.extract("epoch", Delivery.next_try_at - func.clock_timestamp())
        with sessions.begin() as session:
            seconds = float(session.scalars(select(waits)).one())
            session.execute(update(Delivery).values(next_try_at=func.clock_timestamp()))
        return seconds

    return make_due


def counted(name: str = "labfleet_webhook_calls_total", **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_what_became_of_each_call_is_counted(
    end: End, deliver: Deliver, receiver: Receiver, make_due: Callable[[], float]
) -> None:
    results = ("delivered", "to_be_tried_again", "given_up")
    before = [counted(result=result) for result in results]
    calls = counted("labfleet_webhook_call_seconds_count")
    receiver.status = 503
    end()
    for _ in range(3):
        deliver()
        make_due()
    receiver.status = 204
    end()
    deliver()
    assert [counted(result=result) for result in results] == [
        had + more for had, more in zip(before, (1, 2, 1), strict=True)
    ]
    assert counted("labfleet_webhook_call_seconds_count") == calls + 4


def test_the_end_of_a_job_is_told_once_and_signed(
    end: End, deliver: Deliver, receiver: Receiver, row: Callable[[], Delivery], user: User
) -> None:
    job_id = end()
    assert (deliver(), deliver()) == (1, 0)
    (got,) = receiver.got
    kept = row()
    assert got.told == {
        "delivery": str(kept.id),
        "job": str(job_id),
        "state": "cancelled",
        "label": "Golub",
        "time": kept.created_at.astimezone(datetime.UTC).isoformat(),
        "url": f"{SITE}/jobs/{job_id}",
    }
    assert got.path == "/hook?lab=1"
    assert got.delivery == str(kept.id)
    assert got.headers["Content-Type"] == "application/json"
    assert got.headers["Host"] == f"127.0.0.1:{receiver.server_port}"
    assert abs(int(got.headers["X-Labfleet-Signature"][2:].split(",")[0]) - time.time()) < 60
    assert got.verified(secret_of(user.id, KEYS))
    assert not got.verified(secret_of(user.id, KEYS[1:]))
    assert not got.verified(secret_of(uuid.uuid4(), KEYS))
    assert (kept.tries, kept.last_status, kept.last_error, kept.given_up_at) == (1, 204, None, None)
    assert kept.delivered_at is not None


def test_nothing_is_told_before_the_end_or_without_a_webhook(
    sessions: Sessions, user: User, protocol: ProtocolVersion, deliver: Deliver, receiver: Receiver
) -> None:
    url = f"http://127.0.0.1:{receiver.server_port}/"
    with sessions.begin() as session:
        service.submit(session, user, JobSpec(protocol="echo", webhook=url), calls=section())
        silent = service.submit(session, user, JobSpec(protocol="echo"), calls=section())
        verbs.cancel(session, user, silent.id)
    assert deliver() == 0
    assert receiver.got == []


def test_a_failure_is_tried_again_ever_later_then_given_up(
    end: End,
    deliver: Deliver,
    receiver: Receiver,
    row: Callable[[], Delivery],
    make_due: Callable[[], float],
    user: User,
) -> None:
    job_id = end()
    receiver.status = 500
    assert (deliver(), deliver()) == (1, 0)
    assert 50 < make_due() <= 60
    assert deliver() == 1
    assert 110 < make_due() <= 120
    assert row().given_up_at is None
    assert deliver() == 1
    kept = row()
    assert (kept.tries, kept.last_status, kept.delivered_at) == (3, 500, None)
    assert kept.given_up_at is not None
    assert kept.last_error == "The answer was 500, not 2xx."
    make_due()
    assert deliver() == 0
    first, second, third = receiver.got
    assert first.body == second.body == third.body
    assert all(got.verified(secret_of(user.id, KEYS)) for got in receiver.got)
    assert first.told["job"] == str(job_id)


def test_a_receiver_that_recovers_is_told(
    end: End,
    deliver: Deliver,
    receiver: Receiver,
    row: Callable[[], Delivery],
    make_due: Callable[[], float],
) -> None:
    end()
    receiver.status = 503
    deliver()
    receiver.status = 200
    make_due()
    assert deliver() == 1
    kept = row()
    assert (kept.tries, kept.last_status, kept.last_error) == (2, 200, None)
    assert kept.delivered_at is not None


def test_a_redirect_is_not_followed(
    end: End, deliver: Deliver, receiver: Receiver, row: Callable[[], Delivery]
) -> None:
    end()
    with Receiver() as inside:
        receiver.status, receiver.location = 307, f"http://127.0.0.1:{inside.server_port}/secret"
        assert deliver() == 1
        assert inside.got == []
    kept = row()
    assert (kept.last_status, kept.delivered_at) == (307, None)
    assert kept.last_error == "The answer was 307, not 2xx. Redirects are not followed."


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "[::ffff:127.0.0.1]"])
def test_an_address_outside_the_networks_is_not_called(
    end: End, deliver: Deliver, receiver: Receiver, row: Callable[[], Delivery], host: str
) -> None:
    end(f"http://{host}:{receiver.server_port}/")
    assert deliver(section(allowed_networks=["192.0.2.0/24", "0.0.0.0/0", "::/0"])) == 1
    assert receiver.got == []
    kept = row()
    assert (kept.tries, kept.last_status, kept.delivered_at) == (1, None, None)
    assert kept.last_error is not None
    assert "lies in no network that may be called" in kept.last_error


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("http://127.0.0.1:1/", "connection"),
        ("http://no-such-host.invalid/", "no-such-host.invalid can't be resolved"),
        (f"http://{'a' * 70}.example/", "can't be resolved"),
        ("http://127.0.0.1:99999/", "must have a port of 1 to 65535"),
        ("http://ada:secret@127.0.0.1/", "must have no name"),
        ("gopher://127.0.0.1/", "must begin with http"),
    ],
)
def test_what_can_not_be_called_is_a_failure_and_holds_up_nobody(
    sessions: Sessions,
    end: End,
    deliver: Deliver,
    receiver: Receiver,
    url: str,
    error: str,
) -> None:
    bad, good = end(), end()
    with sessions.begin() as session:  # as it may stand there since an earlier release
        session.execute(update(Delivery).where(Delivery.job_id == bad).values(url=url))
    assert deliver() == 2
    assert [got.told["job"] for got in receiver.got] == [str(good)]
    with sessions() as session:
        kept = session.scalars(select(Delivery).where(Delivery.job_id == bad)).one()
    assert (kept.tries, kept.last_status, kept.delivered_at) == (1, None, None)
    assert kept.last_error
    assert error in kept.last_error


def test_a_call_has_a_time_limit_as_a_whole(
    end: End, deliver: Deliver, receiver: Receiver, row: Callable[[], Delivery]
) -> None:
    end()
    over = threading.Event()
    receiver.before_answer = lambda: over.wait(30)
    begin = time.monotonic()
    assert deliver(section(timeout_seconds=0.5)) == 1
    assert time.monotonic() - begin < 5
    over.set()
    assert row().last_error == "No answer within 0.5 seconds."


def test_calls_of_a_batch_are_made_at_once(end: End, deliver: Deliver, receiver: Receiver) -> None:
    for _ in range(5):
        end()
    together = threading.Barrier(5)
    receiver.before_answer = lambda: together.wait(5)
    assert deliver() == 5
    assert len({got.delivery for got in receiver.got}) == 5


def test_a_batch_is_bounded(end: End, deliver: Deliver, receiver: Receiver) -> None:
    for _ in range(3):
        end()
    assert [deliver(section(batch_size=2)) for _ in range(3)] == [2, 1, 0]
    assert len({got.delivery for got in receiver.got}) == 3


def test_two_processes_at_once_make_each_call_once(end: End, deliver: Deliver, receiver: Receiver) -> None:
    end()
    seen: list[int] = []
    receiver.before_answer = lambda: seen.append(deliver())
    assert deliver() == 1
    assert seen == [0]
    assert deliver() == 0
    assert len(receiver.got) == 1


def test_a_process_that_dies_while_it_calls_leaves_the_row(
    sessions: Sessions, end: End, deliver: Deliver, receiver: Receiver, row: Callable[[], Delivery]
) -> None:
    end()
    cut = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND state = 'idle in transaction' AND pid <> pg_backend_pid()"
    )

    def lose_the_database() -> None:
        with sessions() as session:
            session.execute(text(cut))

    receiver.before_answer = lose_the_database
    with pytest.raises(Exception, match=r"terminat|closed"):
        deliver()
    assert (row().tries, row().delivered_at) == (0, None)
    receiver.before_answer = lambda: None
    assert deliver() == 1
    first, again = receiver.got
    assert (first.delivery, first.body) == (again.delivery, again.body)


def test_a_job_that_ends_again_is_told_again(
    sessions: Sessions, user: User, end: End, deliver: Deliver, receiver: Receiver
) -> None:
    job_id = end()
    deliver()
    with sessions.begin() as session:
        verbs.retry(session, user, job_id)
    assert deliver() == 0
    with sessions.begin() as session:
        verbs.cancel(session, user, job_id)
    assert deliver() == 1
    first, second = receiver.got
    assert first.told["job"] == second.told["job"]
    assert first.delivery != second.delivery


def test_a_deleted_job_takes_its_deliveries_along(
    sessions: Sessions, user: User, end: End, deliver: Deliver, receiver: Receiver
) -> None:
    job_id = end()
    with sessions.begin() as session:
        verbs.remove(session, user, job_id)
    assert deliver() == 0
    assert receiver.got == []


def test_a_job_with_a_webhook_is_refused_while_they_are_off(
    sessions: Sessions, user: User, protocol: ProtocolVersion
) -> None:
    spec = JobSpec(protocol="echo", webhook="https://example.org/hook")
    with sessions() as session, pytest.raises(WebhooksOff):
        service.submit(session, user, spec)
    with sessions() as session:
        assert session.scalar(select(func.count()).select_from(Task)) == 0


def test_a_repeated_request_finds_its_job_though_they_are_off_by_now(
    sessions: Sessions, user: User, protocol: ProtocolVersion
) -> None:
    spec = JobSpec(protocol="echo", webhook="https://example.org/hook")
    with sessions.begin() as session:
        made = service.submit(session, user, spec, "k", calls=section()).id
    with sessions.begin() as session:
        assert service.submit(session, user, spec, "k").id == made


class TestTls:
    @pytest.fixture
    def certificate(self, tmp_path: Path) -> Path:
        """A certificate of `localhost` that signs itself, with its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(now - datetime.timedelta(days=1))
        builder = builder.not_valid_after(now + datetime.timedelta(days=1))
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)
        signed = builder.add_extension(x509.BasicConstraints(True, None), True).sign(key, hashes.SHA256())
        pem, file = serialization.Encoding.PEM, tmp_path / "receiver.pem"
        form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        file.write_bytes(signed.public_bytes(pem) + key.private_bytes(pem, form, plain))
        return file

    def call(self, url: str, **changes: Any) -> Any:
        caller = Caller(section(allowed_networks=["127.0.0.0/8", "::1/128"], **changes))
        try:
            return caller.call([Call(url, b"{}", {})])[0]
        finally:
            caller.close()

    def test_the_name_is_kept_for_certificate_and_host(self, certificate: Path) -> None:
        with Receiver(certificate) as receiver:
            answer = self.call(f"https://localhost:{receiver.server_port}/hook", ca_file=str(certificate))
            assert (answer.status, answer.error) == (204, None)
            assert receiver.names == ["localhost"]
            assert [got.headers["Host"] for got in receiver.got] == [f"localhost:{receiver.server_port}"]

    @pytest.mark.parametrize(("host", "known"), [("localhost", False), ("127.0.0.1", True)])
    def test_who_can_not_prove_his_name_is_told_nothing(
        self, certificate: Path, host: str, known: bool
    ) -> None:
        with Receiver(certificate) as receiver:
            changes = {"ca_file": str(certificate)} if known else {}
            answer = self.call(f"https://{host}:{receiver.server_port}/hook", **changes)
            assert answer.status is None
            assert "CERTIFICATE_VERIFY_FAILED" in answer.error
            assert receiver.got == []
