"""Tokens that may do a part of what their users may: at the API, by git, and when they make others."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from apiflask import APIFlask
from sqlalchemy import select, text
from sqlalchemy.orm import Session, sessionmaker
from werkzeug.serving import make_server

from labfleet.db.models import AuditRow, Token, User
from labfleet.fetching.handlers.known import known
from labfleet.sources.service import put_handlers
from labfleet.users import service as users
from labfleet.users.scopes import Scope

from .conftest import PASSWORD, Caller

Sessions = sessionmaker[Session]
Narrow = Callable[..., Caller]


@pytest.fixture
def narrow(app: APIFlask, sessions: Sessions, protocols: None) -> Narrow:
    """`narrow(user, scope, …)`: the API by a token that may do only this."""

    def narrow(user: User, *scopes: Scope, days: float | None = None) -> Caller:
        with sessions.begin() as db:
            return Caller(app.test_client(), users.issue_token(db, user, "narrow", days=days, wanted=scopes))

    return narrow


def refused(answer: Any, scope: Scope) -> None:
    assert (answer.status_code, answer.json["code"], answer.json["scope"]) == (403, "scope_missing", scope)
    assert answer.content_type == "application/problem+json"
    assert f"'{scope}'" in answer.json["detail"] and "labfleet tokens make" in answer.json["hint"]


ASKED = [
    (Scope.READ, "GET", "jobs", None, 200),
    (Scope.JOBS, "POST", "jobs", {"protocol": "greet"}, 201),
    (Scope.JOBS, "POST", "jobs/bulk", {"verb": "cancel", "filter": {}}, 200),
    (Scope.DATA, "POST", "datasets?name=a.csv", None, 201),
    (Scope.PROTOCOLS, "DELETE", "protocols/absent", None, 404),
    (Scope.ACCOUNT, "GET", "me/webhook-secret", None, 200),
    (Scope.ACCOUNT, "DELETE", "me/sessions", None, 204),
    (Scope.ADMIN, "GET", "users", None, 200),
]


@pytest.mark.parametrize(("scope", "method", "path", "body", "status"), ASKED)
def test_a_token_does_what_its_scope_lets_it(
    narrow: Narrow, admin: User, scope: Scope, method: str, path: str, body: Any, status: int
) -> None:
    told = {"json": body} if body else {"data": b"a,b\n1,2\n"} if "datasets" in path else {}
    assert narrow(admin, scope)(method, path, **told).status_code == status
    others = [one for one in Scope if one is not scope]
    refused(narrow(admin, *others)(method, path, **told), scope)


def test_a_token_of_before_may_do_everything(
    app: APIFlask, sessions: Sessions, user: User, admin: User, caller: Callable[[User], Caller]
) -> None:
    """As older code writes it: without a word about scopes."""
    with sessions.begin() as db:
        plain = users.issue_token(db, admin, "old", wanted=[Scope.READ])
        db.execute(text("UPDATE tokens SET scopes = DEFAULT"))
    api = Caller(app.test_client(), plain)
    assert api("GET", "users").status_code == 200
    assert api("DELETE", "me/sessions").status_code == 204


def test_an_admin_s_token_without_admin_is_that_of_an_ordinary_user(
    narrow: Narrow, admin: User, user: User, sessions: Sessions
) -> None:
    job = narrow(user, Scope.READ, Scope.JOBS).submit()
    wide, plain = narrow(admin, *Scope), narrow(admin, *(one for one in Scope if one is not Scope.ADMIN))
    assert wide("GET", f"jobs/{job['id']}").status_code == 200
    assert plain("GET", f"jobs/{job['id']}").status_code == 404
    assert plain("POST", f"jobs/{job['id']}/cancel").status_code == 404
    assert plain("GET", "me").json["is_admin"] is False
    assert wide("GET", "me").json["is_admin"] is True
    # He stays what he is.
    plain("PUT", "me/mail", json={"jobs": "never"})
    with sessions() as db:
        assert db.get_one(User, admin.id).is_admin


def test_who_is_no_admin_hears_that_and_not_of_scopes(narrow: Narrow, user: User) -> None:
    answer = narrow(user, Scope.READ)("GET", "users")
    assert (answer.status_code, answer.json["code"]) == (403, "forbidden")


def test_a_token_makes_none_that_may_more(narrow: Narrow, user: User, sessions: Sessions) -> None:
    api = narrow(user, Scope.READ, Scope.ACCOUNT, days=1)
    refused(api("POST", "me/tokens", json={"name": "x", "scopes": ["read", "jobs"]}), Scope.JOBS)
    refused(api("POST", "me/tokens", json={"name": "x", "scopes": ["admin"]}), Scope.ADMIN)
    made = api("POST", "me/tokens", json={"name": "child", "days": 30})
    assert made.status_code == 201
    with sessions() as db:
        parent, child = db.scalars(select(Token).order_by(Token.created_at)).all()
    assert (child.name, child.scopes) == ("child", ["read", "account"])
    assert child.expires_at == parent.expires_at
    short = api("POST", "me/tokens", json={"name": "short", "days": 0.5, "scopes": ["read"]})
    reader = Caller(api.client, short.json["token"])
    assert reader("GET", "jobs").status_code == 200
    refused(reader("POST", "me/tokens", json={"name": "x"}), Scope.ACCOUNT)
    told = {one["name"]: one for one in reader("GET", "me/tokens").json["items"]}
    assert told["short"]["scopes"] == ["read"]
    assert told["short"]["expires_at"] < told["child"]["expires_at"]
    assert "token" not in told["short"]


def test_tokens_are_revoked(narrow: Narrow, user: User, admin: User) -> None:
    api, other = narrow(user, Scope.READ, Scope.ACCOUNT), narrow(admin, Scope.READ, Scope.ACCOUNT)
    (own,) = api("GET", "me/tokens").json["items"]
    assert other("DELETE", f"me/tokens/{own['id']}").status_code == 404
    assert api("DELETE", f"me/tokens/{own['id']}").status_code == 204
    assert api("GET", "me/tokens").status_code == 401


@pytest.mark.parametrize("scopes", [[], ["everything"], "read", ["read", None]])
def test_scopes_that_are_none(narrow: Narrow, user: User, scopes: Any) -> None:
    answer = narrow(user, Scope.ACCOUNT)("POST", "me/tokens", json={"name": "x", "scopes": scopes})
    assert answer.status_code == 422


@pytest.mark.parametrize(
    ("name", "asked", "scopes"),
    [
        ("ada", None, ["read", "jobs", "data", "protocols", "account"]),
        ("ada", ["jobs", "read", "jobs"], ["read", "jobs"]),
        ("boss", None, list(Scope)),
        ("boss", ["admin"], ["admin"]),
    ],
)
def test_signing_in_gives_all_or_what_is_asked_for(
    app: APIFlask, sessions: Sessions, ada: User, name: str, asked: list[str] | None, scopes: list[str]
) -> None:
    with sessions.begin() as db:
        users.add_user(db, "boss", PASSWORD, is_admin=True)
    body = {"user": name, "password": PASSWORD, "scopes": asked}
    answer = app.test_client().post("/api/v1/login", json=body)
    assert answer.status_code == 200
    with sessions() as db:
        assert db.scalars(select(Token.scopes)).one() == scopes
        made = db.scalars(select(AuditRow).where(AuditRow.action == "token.made")).one()
        assert made.detail["scopes"] == scopes


def test_admin_is_for_admins(app: APIFlask, ada: User, narrow: Narrow) -> None:
    body = {"user": "ada", "password": PASSWORD, "scopes": ["read", "admin"]}
    answer = app.test_client().post("/api/v1/login", json=body)
    assert (answer.status_code, answer.json["code"]) == (422, "invalid")


def test_a_source_of_a_protocol_is_fetched_by_who_may_push(
    narrow: Narrow, user: User, sessions: Sessions
) -> None:
    with sessions.begin() as db:
        put_handlers(db, {name: handler.described() for name, handler in known().items()})
    api = narrow(user, Scope.READ, Scope.DATA)
    definition = {"handler": "git", "parameters": {"url": "https://git.example.org/greet.git"}}
    made = api("POST", "sources", json={"name": "greet", "definition": definition})
    assert made.status_code == 201, made.text
    fetch = f"sources/{made.json['id']}/fetches"
    refused(api("POST", fetch, json={}), Scope.PROTOCOLS)
    assert narrow(user, Scope.DATA, Scope.PROTOCOLS)("POST", fetch, json={}).status_code == 202


@pytest.fixture
def site(app: APIFlask) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()


def test_git_asks_for_scopes_too(site: str, narrow: Narrow, user: User, tmp_path: Path) -> None:
    def git(*arguments: str, cwd: Path = tmp_path) -> subprocess.CompletedProcess[str]:
        named = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "credential.helper=")
        return subprocess.run(
            ["git", *named, *arguments], cwd=cwd, capture_output=True, text=True, check=False
        )

    def address(*scopes: Scope) -> str:
        return f"http://{user.name}:{narrow(user, *scopes).token}@{site}/git/greet.git"

    read, others = address(Scope.READ), address(*(one for one in Scope if one is Scope.JOBS))
    denied = git("clone", others, "denied")
    assert denied.returncode and "403" in denied.stderr and "lacks the scope 'read'" in denied.stderr
    cloned = git("clone", read, "cloned")
    assert cloned.returncode == 0, cloned.stderr
    denied = git("push", read, "HEAD:refs/heads/main", cwd=tmp_path / "cloned")
    assert denied.returncode and "lacks the scope 'protocols'" in denied.stderr
