"""A machine joins: once, with the token of its own invitation, while there is time."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import timedelta
from threading import Barrier, Thread

import pytest
from apiflask import APIFlask
from flask.testing import FlaskClient
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session, sessionmaker
from werkzeug.test import TestResponse

from labfleet.db.models import AuditRow, Join
from labfleet.jobs import joining
from labfleet.web.services import Services

ARCHIVE = bytes(range(256)) * 9000
Asker = Callable[..., TestResponse]


@pytest.fixture
def token(parts: Services, sessions: sessionmaker[Session]) -> str:
    with sessions.begin() as db:
        return joining.invite(
            db, parts.archives, "w9", io.BytesIO(ARCHIVE), hours=1, limit=parts.settings.joins.max_bytes
        )


@pytest.fixture
def ask(app: APIFlask) -> Asker:
    def send(token: str, name: str = "w9", client: FlaskClient | None = None) -> TestResponse:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        answer = (client or app.test_client()).post(f"/api/v1/workers/{name}/join", headers=headers)
        answer.get_data()
        answer.close()
        return answer

    return send


def actions(sessions: sessionmaker[Session]) -> list[tuple[str, str]]:
    with sessions() as db:
        rows = db.scalars(select(AuditRow).where(AuditRow.action.startswith("worker.")).order_by(AuditRow.id))
        return [(row.action, row.address) for row in rows]


def test_the_archive_comes_once(ask: Asker, token: str, sessions: sessionmaker[Session]) -> None:
    answer = ask(token)
    assert answer.status_code == 200
    assert answer.data == ARCHIVE
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Cache-Control"] == "no-store"
    again = ask(token)
    assert (again.status_code, again.json["code"]) == (410, "join_over")  # type: ignore[index]
    assert "invite.yml" in again.json["hint"]  # type: ignore[index]
    told = actions(sessions)
    assert [action for action, _ in told] == ["worker.invited", "worker.joined", "worker.join_refused"]
    assert {address for _, address in told[1:]} == {"127.0.0.1"}


def test_of_two_at_once_exactly_one_gets_it(app: APIFlask, ask: Asker, token: str) -> None:
    together, answers = Barrier(8), list[tuple[int, bytes]]()

    def come() -> None:
        client = app.test_client()
        together.wait()
        answer = ask(token, client=client)
        answers.append((answer.status_code, answer.data))

    app.config["PROPAGATE_BUGS"] = False
    threads = [Thread(target=come) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [data for status, data in answers if status == 200] == [ARCHIVE]
    # Who is refused too often has to wait.
    assert {status for status, _ in answers} <= {200, 410, 429}
    assert len(answers) == 8


@pytest.mark.parametrize(("given", "name"), [("", "w9"), ("lj_guessed", "w9"), ("{token}", "w8")])
def test_nobody_else_gets_it(ask: Asker, token: str, given: str, name: str) -> None:
    assert ask(given.format(token=token), name).status_code == 401
    assert ask(token).status_code == 200


def test_not_when_its_time_is_over(ask: Asker, token: str, sessions: sessionmaker[Session]) -> None:
    with sessions.begin() as db:
        db.execute(update(Join).values(expires_at=func.clock_timestamp() - timedelta(seconds=1)))
    answer = ask(token)
    assert (answer.status_code, answer.json["code"]) == (410, "join_over")  # type: ignore[index]


def test_who_guesses_has_to_wait(ask: Asker, token: str, parts: Services) -> None:
    for _ in range(parts.settings.web.login_attempts):
        assert ask("lj_guessed").status_code == 401
    assert ask(token).status_code == 429


def test_other_tokens_open_nothing(app: APIFlask, token: str) -> None:
    """An invitation is good for its archive, and for nothing else."""
    headers = {"Authorization": f"Bearer {token}"}
    for path in ("me", "workers", "jobs"):
        assert app.test_client().get(f"/api/v1/{path}", headers=headers).status_code == 401
    assert app.test_client().put("/api/v1/workers/w9", headers=headers, json={}).status_code == 401
