"""One's own account, and the admin's buttons at the workers."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from apiflask import APIFlask
from flask.testing import FlaskClient
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from labfleet.db.models import User, WorkerRow
from labfleet.users import service as users

PASSWORD = "correct horse battery"
BASE = {"base_url": "https://labfleet.test"}


def token(browser: FlaskClient, path: str) -> str:
    found = re.search(r'name="csrf_token" value="([^"]+)"', browser.get(path, **BASE).text)
    assert found
    return found[1]


def sign_in(browser: FlaskClient, name: str = "ada", password: str = PASSWORD) -> int:
    form = {"user": name, "password": password, "csrf_token": token(browser, "/sign-in")}
    return browser.post("/sign-in", data=form, **BASE).status_code


def post(browser: FlaskClient, path: str, **form: Any) -> Any:
    return browser.post(path, data={"csrf_token": token(browser, "/profile"), **form}, **BASE)


@pytest.fixture
def signed_in(browser: FlaskClient, ada: User) -> FlaskClient:
    assert sign_in(browser) == 303
    return browser


def works(app: APIFlask, plain: str) -> bool:
    answer = app.test_client().get("/api/v1/me", headers={"Authorization": f"Bearer {plain}"})
    return answer.status_code == 200


def test_a_token_is_made_shown_once_and_revoked(signed_in: FlaskClient, app: APIFlask) -> None:
    made = post(signed_in, "/profile/tokens", name="my <script>", days="30", scope=["read", "jobs"]).text
    (plain,) = re.findall(r"lf_[\w-]+", made)
    assert "my &lt;script&gt;" in made and works(app, plain)
    page = signed_in.get("/profile", **BASE).text
    assert plain not in page and "read, jobs · made" in page
    (revoke,) = re.findall(r'action="(/profile/tokens/[^"]+/revoke)"', page)
    assert post(signed_in, revoke).status_code == 303
    assert not works(app, plain) and "No tokens" in signed_in.get("/profile", **BASE).text
    assert post(signed_in, revoke).status_code == 303  # once more is harmless


@pytest.mark.parametrize(
    "form",
    [
        {"name": "", "days": "30", "scope": "read"},
        {"name": "x" * 101, "days": "30", "scope": "read"},
        {"name": "x", "days": "9999", "scope": "read"},
        {"name": "x", "days": "30"},
        {"name": "x", "days": "30", "scope": "everything"},
        {"name": "x", "days": "30", "scope": "admin"},
    ],
)
def test_a_token_that_won_t_do_is_told(signed_in: FlaskClient, form: dict[str, str]) -> None:
    answer = post(signed_in, "/profile/tokens", **form)
    assert answer.status_code == 422 and "lf_" not in answer.text
    assert "No tokens" in answer.text


def test_all_but_admin_is_ticked(
    browser: FlaskClient, sessions: sessionmaker[Session], app: APIFlask
) -> None:
    with sessions.begin() as db:
        users.add_user(db, "boss", PASSWORD, is_admin=True)
    assert sign_in(browser, "boss") == 303
    page = browser.get("/profile", **BASE).text
    boxes = re.findall(r'name="scope" value="(\w+)"( checked)?', page)
    assert [name for name, ticked in boxes if ticked] == ["read", "jobs", "data", "protocols", "account"]
    assert boxes[-1] == ("admin", "")
    made = post(browser, "/profile/tokens", name="all", days="30", scope=[name for name, _ in boxes]).text
    (plain,) = re.findall(r"lf_[\w-]+", made)
    assert "everything · made" in made
    answer = app.test_client().get("/api/v1/users", headers={"Authorization": f"Bearer {plain}"})
    assert answer.status_code == 200


def test_tokens_of_others_are_not_there(
    signed_in: FlaskClient, sessions: sessionmaker[Session], make_user: Callable[..., User], app: APIFlask
) -> None:
    eve = make_user("eve")
    with sessions.begin() as db:
        plain = users.issue_token(db, eve, "eve's own")
    with sessions() as db:
        (theirs,) = users.live_tokens(db, eve)
    assert "own" not in signed_in.get("/profile", **BASE).text.partition("API tokens")[2].partition("Make")[0]
    assert post(signed_in, f"/profile/tokens/{theirs.id}/revoke").status_code == 404
    assert works(app, plain)


def test_another_password_ends_other_sessions(signed_in: FlaskClient, app: APIFlask) -> None:
    other = app.test_client()
    sign_in(other)
    new = "another correct horse"
    form = {"current": PASSWORD, "new": new, "again": new}
    for wrong in ({"current": "wrong"}, {"again": "not the same one"}, {"new": "short", "again": "short"}):
        assert post(signed_in, "/profile/password", **{**form, **wrong}).status_code in {401, 422}
    assert post(signed_in, "/profile/password", **form).status_code == 303
    assert signed_in.get("/profile", **BASE).status_code == 200
    assert other.get("/profile", **BASE).status_code == 303
    assert (sign_in(app.test_client()), sign_in(app.test_client(), password=new)) == (401, 303)


def test_guessing_the_password_of_a_session_is_slowed_down(signed_in: FlaskClient) -> None:
    form = {"current": "wrong", "new": "another correct horse", "again": "another correct horse"}
    for _ in range(3):
        assert post(signed_in, "/profile/password", **form).status_code == 401
    assert post(signed_in, "/profile/password", **form).status_code == 429


def sign_outs(browser: FlaskClient) -> list[str]:
    return re.findall(r'action="(/profile/sessions/[0-9a-f-]+/end)"', browser.get("/profile", **BASE).text)


def test_sessions_are_listed_and_ended_one_by_one(signed_in: FlaskClient, app: APIFlask) -> None:
    phone, other = app.test_client(), app.test_client()
    phone.environ_base["HTTP_USER_AGENT"] = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0) <b>Safari/604.1"
    assert sign_in(phone) == sign_in(other) == 303
    page = signed_in.get("/profile", **BASE).text
    assert "Safari on iPhone" in page and "this one" in page and "from 127.0.0.1" in page
    assert len(sign_outs(signed_in)) == 2  # not of the one that looks
    (at_phone,) = re.findall(r'<b>Safari on iPhone.*?action="([^"]+)"', page, re.DOTALL)
    assert post(signed_in, at_phone).status_code == 303
    assert [one.get("/jobs", **BASE).status_code for one in (phone, other, signed_in)] == [303, 200, 200]
    assert post(signed_in, at_phone).status_code == 404


def test_all_others_are_signed_out_at_once(signed_in: FlaskClient, app: APIFlask) -> None:
    others = [app.test_client() for _ in range(2)]
    assert [sign_in(one) for one in others] == [303, 303]
    assert post(signed_in, "/profile/sessions/end").status_code == 303
    assert [one.get("/jobs", **BASE).status_code for one in [*others, signed_in]] == [303, 303, 200]
    assert sign_outs(signed_in) == []


def test_sessions_of_others_are_not_there(
    signed_in: FlaskClient, app: APIFlask, sessions: sessionmaker[Session]
) -> None:
    with sessions.begin() as db:
        users.add_user(db, "eve", PASSWORD)
    theirs, witness = app.test_client(), app.test_client()
    assert sign_in(theirs, "eve") == sign_in(witness, "eve") == 303
    (at_eves,) = sign_outs(witness)
    assert sign_outs(signed_in) == []
    assert post(signed_in, at_eves).status_code == 404
    assert theirs.get("/jobs", **BASE).status_code == 200


def test_a_cookie_that_was_copied_ends_with_its_session(signed_in: FlaskClient, app: APIFlask) -> None:
    thief = app.test_client()
    cookie = signed_in.get_cookie("__Host-labfleet", domain="labfleet.test")
    assert cookie is not None
    thief.set_cookie("__Host-labfleet", cookie.value, domain="labfleet.test", secure=True)
    assert thief.get("/jobs", **BASE).status_code == 200
    assert post(signed_in, "/sign-out").status_code == 303
    assert thief.get("/jobs", **BASE).status_code == 303


def test_a_session_that_is_not_used_ends(
    signed_in: FlaskClient, sessions: sessionmaker[Session], ada: User, app: APIFlask
) -> None:
    with sessions.begin() as db:
        db.execute(text("UPDATE sessions SET last_seen_at = last_seen_at - interval '11 hours'"))
    assert signed_in.get("/jobs", **BASE).status_code == 200  # which uses it
    with sessions.begin() as db:
        db.execute(text("UPDATE sessions SET last_seen_at = last_seen_at - interval '13 hours'"))
    assert signed_in.get("/jobs", **BASE).status_code == 303
    sign_in(app.test_client())
    with sessions() as db:
        assert db.scalar(text("SELECT count(*) FROM sessions")) == 1  # what is over has been removed


def test_a_disabled_user_is_out_at_once(signed_in: FlaskClient, sessions: sessionmaker[Session]) -> None:
    with sessions.begin() as db:
        db.execute(text("UPDATE users SET disabled_at = clock_timestamp()"))
    assert signed_in.get("/jobs", **BASE).status_code == 303


def test_the_api_lists_and_ends_sessions(
    signed_in: FlaskClient, caller: Callable[[User], Any], ada: User, make_user: Callable[..., User]
) -> None:
    api = caller(ada)
    (mine,) = api("GET", "me/sessions").json["items"]
    assert mine["address"] == "127.0.0.1" and mine["device"] == "Unknown browser"
    assert caller(make_user("eve"))("DELETE", f"me/sessions/{mine['id']}").status_code == 404
    assert api("DELETE", f"me/sessions/{mine['id']}").status_code == 204
    assert api("DELETE", f"me/sessions/{mine['id']}").status_code == 404
    assert signed_in.get("/jobs", **BASE).status_code == 303
    assert sign_in(signed_in) == 303
    assert api("DELETE", "me/sessions").status_code == 204
    assert signed_in.get("/jobs", **BASE).status_code == 303


def test_only_an_admin_drains_a_worker(
    signed_in: FlaskClient, app: APIFlask, sessions: sessionmaker[Session], make_worker: Callable[..., str]
) -> None:
    make_worker("w1")
    assert "Drain" not in signed_in.get("/workers", **BASE).text
    assert post(signed_in, "/workers/w1/drain").status_code == 403
    with sessions.begin() as db:
        users.add_user(db, "root", PASSWORD, is_admin=True)
    admin = app.test_client()
    sign_in(admin, "root")
    for verb, drained in (("drain", True), ("resume", False)):
        assert f'action="/workers/w1/{verb}"' in admin.get("/workers", **BASE).text
        assert post(admin, f"/workers/w1/{verb}").status_code == 303
        with sessions() as db:
            assert db.get_one(WorkerRow, "w1").draining is drained
    assert post(admin, "/workers/none/drain").status_code == 404


def test_what_runs_next_is_told(signed_in: FlaskClient, ada: User, make_tasks: Callable[..., Any]) -> None:
    assert "Nothing of yours waits" in signed_in.get("/workers", **BASE).text
    (task,) = make_tasks(ada)
    page = signed_in.get("/workers", **BASE).text
    assert f"/tasks/{task}" in page and "python · 1 core ·" in page
