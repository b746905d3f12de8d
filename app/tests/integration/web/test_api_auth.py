"""Who may ask: tokens, passwords, and nobody else's things."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from apiflask import APIFlask
from sqlalchemy.orm import Session, sessionmaker

from labfleet.db.models import User
from labfleet.users import service as users

PASSWORD = "correct horse battery"


def login(app: APIFlask, user: str, password: str) -> Any:
    return app.test_client().post("/api/v1/login", json={"user": user, "password": password})


def test_a_password_gets_a_token_that_works(app: APIFlask, ada: User) -> None:
    token = login(app, "ada", PASSWORD).json["token"]
    answer = app.test_client().get("/api/v1/me", headers={"Authorization": f"Bearer {token}"})
    assert answer.json["name"] == "ada"
    assert answer.json["is_admin"] is False


def test_wrong_passwords_are_refused_and_then_slowed_down(app: APIFlask, ada: User) -> None:
    for _ in range(3):
        assert login(app, "ada", "wrong").status_code == 401
    answer = login(app, "ada", PASSWORD)
    assert (answer.status_code, answer.json["code"]) == (429, "too_many_requests")
    assert int(answer.headers["Retry-After"]) > 0


@pytest.mark.parametrize(
    "header",
    [None, "Bearer", "Bearer ", "Bearer lf_unknown", "Basic YTpi", "Bearer ü", "lf_x", "Bearer " + "x" * 600],
)
@pytest.mark.parametrize("path", ["me", "jobs", "datasets", "protocols", "workers"])
def test_without_a_token_nothing_is_shown(app: APIFlask, header: str | None, path: str) -> None:
    headers = {"Authorization": header} if header is not None else {}
    answer = app.test_client().get(f"/api/v1/{path}", headers=headers)
    assert (answer.status_code, answer.json["code"]) == (401, "unauthorized")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_a_session_cookie_is_no_token(app: APIFlask, ada: User) -> None:
    browser = app.test_client()
    browser.post("/sign-in", data={"user": "ada", "password": PASSWORD}, base_url="https://labfleet.test")
    assert browser.get("/api/v1/me", base_url="https://labfleet.test").status_code == 401


def test_revoked_and_disabled_are_refused(
    caller: Callable[[User], Any], user: User, sessions: sessionmaker[Session]
) -> None:
    call = caller(user)
    assert call("GET", "me").status_code == 200
    with sessions.begin() as db:
        users.revoke_token(db, user)
    assert call("GET", "me").status_code == 401


def test_others_things_are_not_there(
    api: Any, running: Any, caller: Callable[[User], Any], make_user: Callable[..., User]
) -> None:
    dataset = api.upload("mine.csv", b"a\n")
    job, worker = running(inputs={"table": dataset["id"]})
    task = job["tasks"][0]["id"]
    artifact = upload_artifact(worker)
    eve, root = caller(make_user("eve")), caller(make_user("root", is_admin=True))
    paths = [f"jobs/{job['id']}", f"datasets/{dataset['id']}", f"datasets/{dataset['id']}/content"]
    paths += [f"tasks/{task}{rest}" for rest in ("", "/log", "/events", "/artifacts")]
    paths += [f"artifacts/{artifact['id']}", f"artifacts/{artifact['id']}/content"]
    for path in paths:
        assert eve("GET", path).status_code == 404, path
        assert root("GET", path).status_code == 200, path
    assert eve("POST", f"jobs/{job['id']}/cancel").status_code == 404
    stolen = eve("POST", "jobs", json={"protocol": "greet", "inputs": {"table": dataset["id"]}})
    assert stolen.json["code"] == "unknown_dataset"
    assert eve("GET", "jobs").json["items"] == [] and eve("GET", "datasets").json["items"] == []
    assert len(root("GET", "jobs").json["items"]) == 1


def upload_artifact(worker: Any) -> Any:
    digest = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    headers = {"X-Content-SHA256": digest}
    return worker("PUT", "artifacts/greeting.txt?kind=text", data=b"hello", headers=headers).json


def test_every_answer_is_hardened(app: APIFlask) -> None:
    for path in ("/api/v1/health", "/api/v1/nothing", "/sign-in", "/api/docs", "/api/openapi.json"):
        headers = app.test_client().get(path, base_url="https://labfleet.test").headers
        assert "default-src 'none'" in headers["Content-Security-Policy"], path
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"


def test_the_document_is_served(app: APIFlask) -> None:
    answer = app.test_client().get("/api/openapi.json")
    assert answer.status_code == 200 and answer.json["openapi"].startswith("3.1")
    page = app.test_client().get("/api/docs").text
    for path in answer.json["paths"]:
        assert f"<code>{path}</code>" in page
    assert not re.search(r"<script[^>]+src=\"https?:", page)
