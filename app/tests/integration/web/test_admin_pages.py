"""What admins look after in the browser and by the API; for others it is not there."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from apiflask import APIFlask
from flask.testing import FlaskClient
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker
from werkzeug.test import TestResponse

from labfleet.db.models import AuditRow, Group, User
from labfleet.users import second_factor, service
from labfleet.users.service import get_user

PASSWORD = "correct horse battery"
NEW = "another correct horse"
BASE = {"base_url": "https://labfleet.test"}
Sessions = sessionmaker[Session]


def post(browser: FlaskClient, path: str, page: str = "/profile", **form: Any) -> TestResponse:
    found = re.search(r'name="csrf_token" value="([^"]+)"', browser.get(page, **BASE).text)
    assert found, page
    return browser.post(path, data={"csrf_token": found[1], **form}, **BASE)


def sign_in(browser: FlaskClient, name: str, password: str = PASSWORD) -> int:
    return post(browser, "/sign-in", "/sign-in", user=name, password=password).status_code


@pytest.fixture
def root(browser: FlaskClient, sessions: Sessions) -> FlaskClient:
    """The browser of an admin."""
    with sessions.begin() as db:
        service.add_user(db, "root", PASSWORD, is_admin=True)
    assert sign_in(browser, "root") == 303
    return browser


def last(sessions: Sessions) -> AuditRow:
    with sessions() as db:
        return db.query(AuditRow).order_by(AuditRow.id.desc()).limit(1).one()


def test_a_user_s_life_in_the_pages(root: FlaskClient, app: APIFlask, sessions: Sessions) -> None:
    made = post(root, "/admin/users", name="grace", password=PASSWORD)
    here = made.headers["Location"]
    assert (last(sessions).action, last(sessions).actor, last(sessions).via) == ("user.made", "root", "page")
    assert 'role="alert"' in post(root, "/admin/users", name="grace", password=PASSWORD).text
    assert post(root, "/admin/users", name="x", password="short").status_code == 422
    assert "grace" in root.get("/admin/users?text=RAC", **BASE).text
    grace = app.test_client()
    assert sign_in(grace, "grace") == 303

    with sessions.begin() as db:
        service.issue_token(db, get_user(db, "grace"), "a program")
        second_factor.prepare(db, get_user(db, "grace"), second_factor.box(["any"]))
        db.execute(text("UPDATE second_factors SET confirmed_at = clock_timestamp()"))
    page = root.get(here, **BASE).text
    assert "Signed in with 1 browser." in page and "a program" in page and "The second factor is on" in page
    (revoke,) = re.findall(r'action="([^"]+/revoke)"', page)
    for path in (revoke, f"{here}/second-factor/reset", f"{here}/sessions/end", f"{here}/promote"):
        assert post(root, path).status_code == 303
    page = root.get(here, **BASE).text
    assert "No tokens." in page and "The second factor is off" in page and ">admin</span>" in page
    assert grace.get("/jobs", **BASE).status_code == 303
    assert sign_in(grace, "grace") == 303

    assert post(root, f"{here}/password", password="short").status_code == 422
    assert post(root, f"{here}/password", password=NEW).status_code == 303
    assert (sign_in(grace, "grace"), sign_in(grace, "grace", NEW)) == (401, 303)
    assert post(root, f"{here}/demote").status_code == post(root, f"{here}/disable").status_code == 303
    assert grace.get("/jobs", **BASE).status_code == 303 and sign_in(grace, "grace", NEW) == 401
    assert post(root, f"{here}/enable").status_code == 303
    assert sign_in(grace, "grace", NEW) == 303


def test_an_admin_does_not_shut_himself_out(root: FlaskClient, sessions: Sessions) -> None:
    with sessions() as db:
        mine = f"/admin/users/{get_user(db, 'root').id}"
    page = root.get(mine, **BASE).text
    assert "/disable" not in page and "/demote" not in page
    assert post(root, f"{mine}/disable").status_code == post(root, f"{mine}/demote").status_code == 403
    assert root.get("/admin/users", **BASE).status_code == 200


def test_groups_and_quotas(root: FlaskClient, sessions: Sessions, ada: User) -> None:
    assert "No groups yet" in root.get("/admin/groups", **BASE).text
    limits = {"max_running": "8", "max_cores": "", "max_stored_bytes": "500G"}
    assert post(root, "/admin/groups", name="lab <a>", **limits).status_code == 422
    assert post(root, "/admin/groups", name="lab", **limits).status_code == 303
    assert 'value="500G"' in root.get("/admin/groups", **BASE).text
    here = f"/admin/users/{ada.id}"
    quota = {**limits, "group": "lab", "weight": "2.5", "max_priority": "3"}
    for wrong in ({"weight": "much"}, {"max_running": "0"}, {"max_stored_bytes": "a lot"}, {"group": "none"}):
        answer = post(root, f"{here}/quota", **{**quota, **wrong})
        assert answer.status_code in {404, 422} and 'role="alert"' in answer.text
    assert post(root, f"{here}/quota", **quota).status_code == 303
    with sessions() as db:
        row, group = get_user(db, "ada"), db.get_one(Group, "lab")
        assert (row.group_name, row.weight, row.max_running, row.max_cores) == ("lab", 2.5, 8, None)
        assert row.max_stored_bytes == group.max_stored_bytes == 500 * 1024**3
    assert "1 user" in root.get("/admin/groups", **BASE).text
    assert post(root, "/admin/groups/lab/delete").status_code == 303
    with sessions() as db:
        assert get_user(db, "ada").group_name is None


def test_the_log_is_shown_filtered_and_in_pages(root: FlaskClient, sessions: Sessions, ada: User) -> None:
    post(root, "/admin/groups", name="lab", max_running="1")
    page = root.get("/admin/audit?kind=group", **BASE).text
    assert "changed the group <b>lab</b>" in page and "max running 1" in page and "user.made" not in page
    assert "user.made" in root.get("/admin/audit?user=ada", **BASE).text
    assert "Nothing of that kind" in root.get("/admin/audit?user=nobody", **BASE).text
    with sessions.begin() as db:
        for number in range(60):
            service.issue_token(db, ada, f"token {number}")
    page = root.get("/admin/audit?kind=token&user=ada", **BASE).text
    assert "name token 59 " in page and "name token 9 " not in page
    (older,) = re.findall(r'href="([^"]+)">Older', page)
    assert "name token 9 " in root.get(older.replace("&amp;", "&"), **BASE).text
    assert root.get("/admin/audit?after=x", **BASE).status_code == 422


def test_who_guesses_is_seen(root: FlaskClient, app: APIFlask, sessions: Sessions, ada: User) -> None:
    stranger = app.test_client()
    assert sign_in(stranger, "ada", "wrong") == sign_in(stranger, "no such user", "wrong") == 401
    entry = last(sessions)
    assert (entry.action, entry.subject, entry.actor, entry.address) == (
        "session.refused",
        "ada",
        "",
        "127.0.0.1",
    )


@pytest.mark.parametrize("path", ["/admin/users", "/admin/groups", "/admin/audit"])
def test_others_see_nothing_of_it(browser: FlaskClient, ada: User, path: str) -> None:
    assert browser.get(path, **BASE).status_code == 303
    sign_in(browser, "ada")
    assert browser.get(path, **BASE).status_code == 403
    assert "Administration" not in browser.get("/", **BASE).text
    for verb in ("promote", "disable", "password", "quota", "sessions/end", "second-factor/reset"):
        assert post(browser, f"/admin/users/{ada.id}/{verb}", password=NEW).status_code == 403
    assert post(browser, "/admin/users", name="x", password=NEW).status_code == 403
    assert post(browser, "/admin/groups", name="x").status_code == 403


def test_the_api_does_the_same(
    caller: Callable[[User], Any], admin: User, ada: User, sessions: Sessions, app: APIFlask
) -> None:
    root, mine = caller(admin), caller(ada)
    made = root("POST", "users", json={"name": "grace", "password": PASSWORD})
    assert made.status_code == 201 and made.json["tokens"] == 0 and made.json["second_factor"] is False
    assert root("POST", "users", json={"name": "grace", "password": PASSWORD}).status_code == 409
    listed = root("GET", "users?limit=2").json
    assert [item["name"] for item in listed["items"]] == ["ada", "grace"] and listed["next"] == "grace"
    assert [item["name"] for item in root("GET", "users?after=grace").json["items"]] == ["root"]
    changed = root("PATCH", "users/grace", json={"is_admin": True, "disabled": True}).json
    assert changed["is_admin"] and changed["disabled"]
    assert root("PATCH", "users/root", json={"disabled": True}).status_code == 403
    assert root("PUT", "users/ada/password", json={"password": NEW}).status_code == 204
    assert sign_in(app.test_client(), "ada", NEW) == 303
    for thing in ("sessions", "second-factor", "tokens"):
        assert root("DELETE", f"users/ada/{thing}").status_code == 204
    assert mine("GET", "me").status_code == 401
    entries = root("GET", "audit?user=ada&limit=3").json
    assert [item["action"] for item in entries["items"]] == [
        "token.revoked",
        "session.ended",
        "session.begun",
    ]
    assert entries["items"][0]["via"] == "api" and entries["next"] == entries["items"][-1]["id"]
    for method, path in (
        ("GET", "users"),
        ("GET", "audit"),
        ("PATCH", "users/root"),
        ("DELETE", "users/root/tokens"),
    ):
        answer = caller(ada)(method, path, **({"json": {}} if method == "PATCH" else {}))
        assert answer.status_code == 403, path
