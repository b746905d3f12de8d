"""Sources over the API and by the pages; what fetching does is told by tests/integration/sources."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy.orm import Session, sessionmaker

from labfleet.db.models import Fetch, User
from labfleet.fetching.handlers.known import known
from labfleet.sources.service import put_handlers

from .conftest import PASSWORD, Caller

SECRET = "s3cret of the source"
URL = "https://example.org/cells.csv"
DEFINITION = {"handler": "http", "parameters": {"url": URL}}
Sessions = sessionmaker[Session]


@pytest.fixture(autouse=True)
def handlers(sessions: Sessions) -> None:
    """As the loader enters them."""
    with sessions.begin() as db:
        put_handlers(db, {name: handler.described() for name, handler in known().items()})


@pytest.fixture
def mine(caller: Callable[[User], Caller], user: User) -> Caller:
    return caller(user)


def add(api: Caller, name: str = "cells", **definition: Any) -> dict[str, Any]:
    answer = api("POST", "sources", json={"name": name, "definition": DEFINITION | definition})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json
    return made


def test_make_change_and_delete(mine: Caller) -> None:
    made = add(
        mine, transform=[{"rename": {"cell": "sample"}}, {"filter": {"column": "n", "is": ">", "value": 3}}]
    )
    assert (made["owner"], made["fetch"], made["dataset"], made["lifetime_seconds"]) == (
        "ada",
        None,
        None,
        86400,
    )
    assert made["definition"]["transform"][1] == {"filter": {"column": "n", "is": ">", "value": 3}}
    assert (made["visibility"], made["may_change"]) == ("private", True)
    again = mine("POST", "sources", json={"name": "cells", "definition": DEFINITION})
    assert (again.status_code, again.json["code"]) == (409, "source_exists")
    path = f"sources/{made['id']}"
    changed = mine("PATCH", path, json={"name": "other", "lifetime_seconds": 5}).json
    assert (changed["name"], changed["lifetime_seconds"], changed["definition"]) == (
        "other",
        5,
        made["definition"],
    )
    assert [each["name"] for each in mine("GET", "sources").json["items"]] == ["other"]
    assert mine("DELETE", path).status_code == 204
    assert mine("GET", path).json["code"] == "unknown_source"


@pytest.mark.parametrize(
    ("definition", "told"),
    [
        (
            {"handler": "ftp", "parameters": {}},
            "there is no handler 'ftp'; there are: folder, git, http, mariadb, postgresql",
        ),
        ({"handler": "http", "parameters": {}}, "'url' is a required property"),
        ({"handler": "http", "parameters": {"url": "file:///etc/passwd"}}, "not written as it must be"),
        (
            {"handler": "http", "parameters": {"url": "https://me:secret@example.org/"}},
            "not written as it must",
        ),
        (DEFINITION | {"transform": [{"keep": ["a"], "drop": ["b"]}]}, "one of rename, keep"),
        (DEFINITION | {"transform": [{"cast": {"a": "colour"}}]}, "whole number"),
        (DEFINITION | {"format": "file", "sheet": "One"}, "has no sheet"),
    ],
)
def test_what_is_wrong_with_a_source_is_said(mine: Caller, definition: dict[str, Any], told: str) -> None:
    answer = mine("POST", "sources", json={"name": "cells", "definition": definition})
    assert answer.status_code == 422
    assert told in answer.text
    assert "secret" not in answer.text
    assert mine("GET", "sources").json["items"] == []


def test_fetching_is_asked_for_once_and_cancelled(mine: Caller) -> None:
    source = add(mine)
    path = f"sources/{source['id']}/fetches"
    first = mine("POST", path, json={})
    assert (first.status_code, first.json["state"], first.json["asked_by"]) == (202, "queued", "ada")
    assert mine("POST", path, json={"anew": True}).json["id"] == first.json["id"]
    one = f"{path}/{first.json['id']}"
    assert mine("GET", one).json["may_cancel"]
    assert mine("POST", f"{one}/cancel").json["state"] == "cancelled"
    assert mine("POST", f"{one}/cancel").json["code"] == "wrong_state"
    second = mine("POST", path, json={}).json
    assert [each["id"] for each in mine("GET", path).json["items"]] == [second["id"], first.json["id"]]
    assert mine("GET", f"sources/{source['id']}").json["fetch"]["id"] == second["id"]


def test_credentials_are_taken_and_never_told(
    mine: Caller, caller: Callable[[User], Caller], make_user: Any
) -> None:
    given = {"user": "ada", "password": SECRET}
    body = {"name": "cells", "definition": DEFINITION, "credentials": given}
    made = mine("POST", "sources", json=body)
    assert (made.status_code, made.json["credentials"]) == (201, ["password", "user"])
    assert made.json["credentials_at"] and SECRET not in made.text
    path = f"sources/{made.json['id']}"
    mine("POST", f"{path}/publish")
    eve = caller(make_user("eve"))
    assert eve("GET", path).json["credentials"] == ["password", "user"]
    assert eve("PATCH", path, json={"credentials": {}}).status_code == 403
    for told in (
        mine("GET", path),
        mine("GET", "sources"),
        eve("GET", path),
        mine("GET", "sources/handlers"),
    ):
        assert SECRET not in told.text
    # They are shown to nobody else than they were given for.
    elsewhere = {**DEFINITION, "parameters": {"url": "https://elsewhere.example/a.csv"}}
    moved = mine("PATCH", path, json={"definition": elsewhere})
    assert (moved.status_code, moved.json["errors"][0]["path"]) == (422, "credentials")
    assert mine("GET", path).json["definition"] == made.json["definition"]
    assert mine("PATCH", path, json={"definition": DEFINITION | {"format": "csv"}}).status_code == 200
    again = mine("PATCH", path, json={"definition": elsewhere, "credentials": {"token": SECRET}})
    assert again.json["credentials"] == ["token"]
    gone = mine("PATCH", path, json={"credentials": {}})
    assert (gone.json["credentials"], gone.json["credentials_at"]) == ([], None)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"password": "S3CRET"}, "'user' is a dependency of 'password'"),
        ({"pass": "S3CRET"}, "'pass' was unexpected"),
        ({"token": "S3CRET\n"}, "it is not written as it must be"),
        ({"token": ["S3CRET"]}, "valid string"),
    ],
)
def test_what_is_wrong_with_credentials_is_said_without_them(mine: Caller, given: Any, told: str) -> None:
    body = {"name": "cells", "definition": DEFINITION, "credentials": given}
    answer = mine("POST", "sources", json=body)
    assert answer.status_code == 422
    assert told in answer.text and "S3CRET" not in answer.text
    assert mine("GET", "sources").json["items"] == []


def test_others_see_what_is_shared_with_them(
    mine: Caller, caller: Callable[[User], Caller], make_user: Any
) -> None:
    eve, source = caller(make_user("eve")), add(mine)
    path = f"sources/{source['id']}"
    for method, what in (("GET", ""), ("DELETE", ""), ("GET", "/fetches")):
        assert eve(method, path + what).status_code == 404
    assert eve("POST", f"{path}/fetches", json={}).status_code == 404
    shared = mine("POST", f"{path}/share", json={"users": ["eve"]}).json
    assert (shared["visibility"], shared["shared_with"]) == ("shared", {"users": ["eve"], "groups": []})
    seen = eve("GET", path).json
    assert (seen["may_change"], seen["shared_with"]) == (False, None)
    assert eve("PATCH", path, json={"name": "mine"}).status_code == 403
    fetch = eve("POST", f"{path}/fetches", json={}).json
    assert fetch["asked_by"] == "eve"
    assert eve("POST", f"{path}/fetches/{fetch['id']}/cancel").status_code == 200
    by_owner = mine("POST", f"{path}/fetches", json={}).json
    assert eve("POST", f"{path}/fetches/{by_owner['id']}/cancel").status_code == 403
    mine("POST", f"{path}/unshare", json={"users": ["eve"]})
    assert eve("GET", path).status_code == 404
    mine("POST", f"{path}/publish")
    assert eve("GET", path).json["visibility"] == "public"
    mine("POST", f"{path}/withdraw")
    assert eve("GET", path).status_code == 404
    assert eve("GET", "sources/handlers").json["folders"] == []


@pytest.fixture
def signed_in(browser: FlaskClient, ada: User) -> FlaskClient:
    page = browser.get("/sign-in", base_url="https://labfleet.test").text
    form = {"user": "ada", "password": PASSWORD, "csrf_token": csrf(page)}
    assert browser.post("/sign-in", data=form, base_url="https://labfleet.test").status_code == 303
    return browser


def csrf(page: str) -> str:
    found = re.search(r'name="csrf_token" value="([^"]+)"', page)
    assert found
    return found[1]


def test_a_source_by_the_pages(signed_in: FlaskClient, sessions: Sessions) -> None:
    def get(path: str) -> str:
        answer = signed_in.get(path, base_url="https://labfleet.test")
        assert answer.status_code == 200, answer.text
        return answer.text

    def post(path: str, **form: str) -> Any:
        token = csrf(get("/sources/new?handler=http"))
        return signed_in.post(path, data={"csrf_token": token, **form}, base_url="https://labfleet.test")

    assert "No sources yet" in get("/sources")
    assert "Local or shared folder" in get("/sources/new")
    filled = {"handler": "http", "name": "cells <b>", "lifetime": "3600", "format": "csv", "p-url": URL}
    wrong = post("/sources/new", **filled | {"p-url": "example.org", "t-rename": "a = b"})
    assert wrong.status_code == 422
    assert "not written as it must be" in wrong.text and "a = b" in wrong.text
    unread = post("/sources/new", **filled, **{"t-filter": "age"})
    assert unread.status_code == 422 and "&#39;age&#39; can&#39;t be read" in unread.text
    steps = {"t-rename": "Gen = gene\r\n", "t-filter": "age >= 18\nname is given", "t-shape": "long"}
    made = post("/sources/new", **filled, **steps)
    assert made.status_code == 303
    page = get(made.location)
    assert "cells &lt;b&gt;" in page and "It begins as soon as there is room" in page and URL in page
    edit = get(f"{made.location}/edit")
    assert "Gen = gene" in edit and "age &gt;= 18\nname is given" in edit
    assert post(f"{made.location}/edit", **filled | {"name": "cells"}, **steps).status_code == 303
    with sessions.begin() as db:
        fetch = db.query(Fetch).one()
        fetch.state, fetch.message = "failed", "The server answered 404 Not Found."
    live = get(f"{made.location}/live")
    assert "The last fetch failed" in live and "404 Not Found" in live and "hx-get" not in live
    assert post(f"{made.location}/fetch").status_code == 303
    assert "hx-get" in get(f"{made.location}/live")
    with sessions() as db:
        last = db.query(Fetch).filter(Fetch.state == "queued").one().id
    assert post(f"{made.location}/fetches/{last}/cancel").status_code == 303
    assert "cancelled" in get(made.location)
    assert post(f"{made.location}/sharing", users="nobody").status_code == 404
    assert post(f"{made.location}/sharing", public="true").status_code == 303
    assert "Everybody in the lab sees it" in get(made.location)
    assert post(f"{made.location}/delete").status_code == 303
    assert signed_in.get(made.location, base_url="https://labfleet.test").status_code == 404
    assert signed_in.get(f"/sources/{uuid.uuid4()}", base_url="https://labfleet.test").status_code == 404


def test_credentials_by_the_pages(signed_in: FlaskClient) -> None:
    def get(path: str) -> str:
        return signed_in.get(path, base_url="https://labfleet.test").text

    def post(path: str, **form: str) -> Any:
        token = csrf(get("/sources/new?handler=http"))
        return signed_in.post(path, data={"csrf_token": token, **form}, base_url="https://labfleet.test")

    filled = {"handler": "http", "name": "cells", "lifetime": "3600", "format": "csv", "p-url": URL}
    assert 'id="c-password" name="c-password" type="password" autocomplete="new-password"' in get(
        "/sources/new?handler=http"
    )
    assert "Credentials" not in get("/sources/new?handler=folder")
    half = post("/sources/new", **filled, **{"c-password": SECRET})
    assert half.status_code == 422
    assert "&#39;user&#39; is a dependency" in half.text and SECRET not in half.text
    made = post("/sources/new", **filled, **{"c-user": "ada", "c-password": SECRET}).location
    page, edit = get(made), get(f"{made}/edit")
    assert "Password, User" in page and SECRET not in page
    assert "Keep them" in edit and SECRET not in edit and 'value="ada"' not in edit
    kept = post(f"{made}/edit", **filled, credentials="keep")
    assert kept.status_code == 303 and "Password, User" in get(made)
    for wrong, told in (
        ({"credentials": "keep", "c-token": SECRET}, "but not chosen"),
        ({"credentials": "replace"}, "No new credentials were typed"),
        ({"credentials": "keep", "p-url": "https://elsewhere.example/"}, "given for another address"),
    ):
        answer = post(f"{made}/edit", **filled | wrong)
        assert answer.status_code == 422 and told in answer.text and SECRET not in answer.text
    assert post(f"{made}/edit", **filled, **{"credentials": "replace", "c-token": SECRET}).status_code == 303
    assert "<dd>Token <span" in get(made)
    assert post(f"{made}/edit", **filled, credentials="remove").status_code == 303
    assert "Credentials" not in get(made)


REPOSITORY = "https://example.org/lab/cells.git"


def test_importing_a_protocol_makes_one_source_of_its_address(mine: Caller, sessions: Sessions) -> None:
    secret = {"user": "ada", "password": SECRET}
    first = mine("POST", "protocols/import", json={"url": REPOSITORY, "credentials": secret})
    assert first.status_code == 202, first.text
    assert (first.json["state"], first.json["protocol"]) == ("queued", None)
    path = f"sources/{first.json['source']}"
    assert first.headers["Location"] == f"/api/v1/{path}/fetches/{first.json['id']}"
    made = mine("GET", path)
    assert (made.json["name"], made.json["credentials"]) == ("cells", ["password", "user"])
    assert SECRET not in made.text
    assert made.json["definition"] == {
        "handler": "git",
        "parameters": {"url": REPOSITORY, "tags": True, "rewrite": False},
        "format": "protocol",
    }
    again = mine("POST", "protocols/import", json={"url": REPOSITORY, "branch": "next", "rewrite": True})
    assert again.json["id"] == first.json["id"]
    changed = mine("GET", path).json
    assert changed["definition"]["parameters"]["branch"] == "next"
    assert changed["credentials"] == ["password", "user"]
    other = mine("POST", "protocols/import", json={"url": REPOSITORY.replace("lab", "institute")})
    assert mine("GET", f"sources/{other.json['source']}").json["name"] == "cells 2"
    assert mine("POST", f"{path}/fetches/{first.json['id']}/cancel").json["state"] == "cancelled"


@pytest.mark.parametrize(
    "address",
    ["https://ada:secret@example.org/x.git", "file:///srv/x.git", "ssh://example.org/x", "https://x/"],
)
def test_an_address_that_is_none_is_refused(mine: Caller, address: str) -> None:
    answer = mine("POST", "protocols/import", json={"url": address})
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_source")
    assert "secret" not in answer.text


def test_importing_by_the_page(signed_in: FlaskClient, sessions: Sessions) -> None:
    page = signed_in.get("/protocols", base_url="https://labfleet.test").text
    token = re.search(r'name="csrf_token" value="([^"]+)"', page)
    assert token
    form = {"csrf_token": token[1], "url": REPOSITORY, "branch": "", "user": "", "password": SECRET}
    answer = signed_in.post("/protocols/import", data=form, base_url="https://labfleet.test")
    assert answer.status_code == 303, answer.text
    shown = signed_in.get(answer.headers["Location"], base_url="https://labfleet.test").text
    assert "Git repository of a protocol" in shown
    assert "Fetching" in shown
    assert SECRET not in shown
    with sessions.begin() as db:
        fetch = db.query(Fetch).one()
        fetch.state, fetch.message = "failed", "main.py:1 is broken"
    shown = signed_in.get(answer.headers["Location"], base_url="https://labfleet.test").text
    assert "main.py:1 is broken" in shown
    edit = signed_in.get(f"{answer.headers['Location']}/edit", base_url="https://labfleet.test").text
    assert "What is made of it" not in edit
    wrong = signed_in.post(
        "/protocols/import", data=form | {"url": "ssh://example.org/x"}, base_url="https://labfleet.test"
    )
    assert wrong.status_code == 422
    assert "parameters/url" in wrong.text
