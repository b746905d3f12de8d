from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import Engine, func, select, text, update
from sqlalchemy.exc import ProgrammingError

from labfleet.config import GIB, DispatcherSection, MailSection, OrderSection
from labfleet.db.engine import engine_for, session_factory
from labfleet.db.grants import ROLES, statements
from labfleet.db.models import ProtocolVersion, Task
from labfleet.dispatch.batch import Courier, dispatch_batch
from labfleet.dispatch.reconcile import reconcile
from labfleet.dispatch.release import release
from labfleet.dispatch.runner_client import Message, Status, Target
from labfleet.jobs import attempts, explain, finishing, fleet, presence, quotas, service, verbs
from labfleet.jobs.finishing import Ending
from labfleet.jobs.spec import JobSpec
from labfleet.jobs.states import Outcome
from labfleet.mail import outbox, told
from labfleet.mail.outbox import Post
from labfleet.users import service as users
from labfleet.users import sessions

MAILS = MailSection(host="127.0.0.1", sender="l@lab.example")


@pytest.fixture
def as_role(engine: Engine) -> Iterator[dict[str, Engine]]:
    """Roles of this test's own, with the rights of the real ones; roles belong to the whole server."""
    password = secrets.token_hex(8)
    names = {role: f"{role}_{secrets.token_hex(4)}" for role in ROLES}
    with engine.begin() as connection:
        for role, name in names.items():
            connection.execute(text(f"CREATE ROLE {name} LOGIN PASSWORD '{password}'"))
            for statement in statements(name, ROLES[role]):
                connection.execute(text(statement))
    engines = {
        role: engine_for(engine.url.set(username=name, password=password)) for role, name in names.items()
    }
    yield engines
    for one in engines.values():
        one.dispose()
    with engine.begin() as connection:
        for name in names.values():
            connection.execute(text(f"DROP OWNED BY {name}"))
            connection.execute(text(f"DROP ROLE {name}"))


@pytest.mark.parametrize(
    ("role", "sql"),
    [
        ("labfleet_dispatcher", "SELECT * FROM users"),
        ("labfleet_dispatcher", "SELECT * FROM tokens"),
        ("labfleet_dispatcher", "SELECT * FROM sessions"),
        ("labfleet_dispatcher", "SELECT * FROM second_factors"),
        ("labfleet_dispatcher", "SELECT * FROM datasets"),
        ("labfleet_dispatcher", "UPDATE datasets SET name = 'x'"),
        ("labfleet_dispatcher", "INSERT INTO previews (dataset_id) VALUES (gen_random_uuid())"),
        ("labfleet_dispatcher", "INSERT INTO jobs DEFAULT VALUES"),
        ("labfleet_dispatcher", "DELETE FROM tasks"),
        ("labfleet_dispatcher", "SELECT password_hash FROM users"),
        ("labfleet_dispatcher", "SELECT definition FROM sources"),
        ("labfleet_dispatcher", "SELECT 1 FROM fetches"),
        ("labfleet_dispatcher", "SELECT 1 FROM mails"),
        ("labfleet_dispatcher", "SELECT mail FROM users"),
        ("labfleet_dispatcher", "SELECT 1 FROM identities"),
        ("labfleet_web", "DELETE FROM tasks"),
        ("labfleet_web", "DELETE FROM events"),
        ("labfleet_web", "DELETE FROM audit"),
        ("labfleet_web", "UPDATE audit SET actor = 'somebody else'"),
        ("labfleet_web", "UPDATE events SET event = 'x'"),
        ("labfleet_web", "DELETE FROM fleet_samples"),
        ("labfleet_web", "CREATE TABLE mine (x int)"),
        ("labfleet_web", "UPDATE alembic_version SET version_num = '0'"),
    ],
)
def test_a_role_may_not_do_what_it_has_no_use_for(as_role: dict[str, Engine], role: str, sql: str) -> None:
    with as_role[role].connect() as connection, pytest.raises(ProgrammingError) as caught:
        connection.execute(text(sql))
    assert isinstance(caught.value.orig, psycopg.errors.InsufficientPrivilege)


@pytest.mark.parametrize(
    ("role", "sql"),
    [
        ("labfleet_dispatcher", "SELECT 1 FROM tasks FOR UPDATE"),
        ("labfleet_dispatcher", "DELETE FROM outbox"),
        ("labfleet_dispatcher", "DELETE FROM fleet_samples"),
        (
            "labfleet_dispatcher",
            "SELECT jobs.owner_id FROM deliveries JOIN jobs ON jobs.id = job_id FOR UPDATE OF deliveries",
        ),
        ("labfleet_dispatcher", "UPDATE deliveries SET tries = 1, delivered_at = clock_timestamp()"),
        ("labfleet_dispatcher", "LISTEN labfleet_webhooks"),
        ("labfleet_dispatcher", "UPDATE previews SET state = 'running', tries = tries + 1"),
        ("labfleet_dispatcher", "SELECT 1 FROM previews FOR UPDATE SKIP LOCKED"),
        ("labfleet_web", "UPDATE fetches SET state = 'running'"),
        ("labfleet_web", "DELETE FROM sources"),
        ("labfleet_web", "LISTEN labfleet_sources"),
        ("labfleet_web", "LISTEN labfleet_mails"),
        ("labfleet_web", "DELETE FROM mails"),
        ("labfleet_web", "DELETE FROM identities"),
        ("labfleet_web", "SELECT 1 FROM jobs JOIN tasks ON job_id = jobs.id FOR UPDATE"),
        ("labfleet_web", "SELECT * FROM alembic_version"),
    ],
)
def test_a_role_may_do_its_work(as_role: dict[str, Engine], role: str, sql: str) -> None:
    with as_role[role].begin() as connection:
        connection.execute(text(sql))


class Confirms:
    def __init__(self, status: Status) -> None:
        self.status = status

    def send(self, verb: str, messages: Sequence[Message]) -> Mapping[Target, Status]:
        return {(UUID(m["task"]), m["attempt"]): self.status for m in messages}


def test_the_rights_suffice_for_the_whole_life_of_a_job(
    as_role: dict[str, Engine], protocol: ProtocolVersion
) -> None:
    web = session_factory(as_role["labfleet_web"])
    dispatcher = session_factory(as_role["labfleet_dispatcher"])
    section = DispatcherSection(runner_urls=["http://127.0.0.1:9"])

    def dispatch(status: Status) -> None:
        with dispatcher.begin() as session:
            release(session, OrderSection())
        with dispatcher.begin() as session:
            session.execute(text("UPDATE outbox SET next_try_at = clock_timestamp()"))
            dispatch_batch(session, Courier(Confirms(status), ["key"], section))

    def age(**columns: int) -> None:
        with dispatcher.begin() as session:
            ages = {c: func.clock_timestamp() - timedelta(seconds=s) for c, s in columns.items()}
            session.execute(update(Task).values(ages))

    with web.begin() as session:
        owner = users.add_user(session, "ada", "a long password")
        owner.mail = "ada@lab.example"
        users.resolve_token(session, users.issue_token(session, owner))
        users.revoke_token(session, users.authenticate(session, "ada", "a long password"))
        key = sessions.begin(session, owner, address="::1", agent="", hours=1)
        assert sessions.resolve(session, key, address="::2", hours=1)
        sessions.end_all(session, owner)
        presence.report(session, "w1", presence.Presence(["python"], 1, 0, 1, 0.0, 1, 1, "0", GIB))
        quotas.put_group(session, "lab", {"max_running": 3})
        quotas.set_user(session, "ada", {"group": "lab", "max_cores": 3, "max_stored_bytes": 10**9})
        quotas.claim_storage(session, owner, 1)
        fleet.reserve(session, "r", 1)
        job_id = service.submit(session, owner, JobSpec(protocol="echo", mail=True), "k", mails=MAILS).id
        task_id = session.scalars(select(Task.id).where(Task.job_id == job_id)).one()
    for status in (Status.FAILED, Status.UNROUTABLE, Status.CONFIRMED):
        dispatch(status)
    age(dispatched_at=100)
    assert reconcile(dispatcher, section, OrderSection()) == (0, 1)
    dispatch(Status.CONFIRMED)
    with web.begin() as session:
        fleet.unreserve(session, "r")
        fleet.drain(session, "w1", draining=True)
        quotas.delete_group(session, "lab")
        assert explain.waiting_of_job(session, owner, job_id, OrderSection())
        attempts.claim(session, task_id, 1, "w1", "c1", lease_seconds=60)
    age(lease_until=1)
    assert reconcile(dispatcher, section, OrderSection()) == (1, 0)
    with web.begin() as session:
        attempts.claim(session, task_id, 2, "w1", "c2", lease_seconds=60)
        attempts.heartbeat(session, task_id, 2, lease_seconds=60, progress=0.5)
        attempts.append_log_position(session, task_id, 2, 0, 10)
        new = attempts.NewArtifact("a", "text", "text/plain", "e" * 64, 1)
        assert attempts.record_artifact(session, task_id, 2, new) is not None
        verbs.cancel(session, owner, job_id)
        finishing.finish(session, task_id, 2, Ending(Outcome.STOPPED))
        assert service.get_job_row(session, owner, job_id).state == "cancelled"
    with web.begin() as session:
        assert told.due(session, MAILS) == [owner.id]
        told.tell(session, Post(MAILS, "https://lab.example"), owner.id)
        assert outbox.tally(session).waiting == 1
    dispatch(Status.CONFIRMED)
    with web.begin() as session:
        verbs.remove(session, owner, job_id)
