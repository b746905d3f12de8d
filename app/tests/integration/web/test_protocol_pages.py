"""The catalogue, a protocol's page, and who may use it: as a browser shows them."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient
from protocol_archives import archive
from werkzeug.test import TestResponse

from labfleet.db.models import User

PASSWORD = "correct horse battery"
BASE: dict[str, Any] = {"base_url": "https://labfleet.test"}
README = """# About

A *small* one <script>alert(1)</script>, [good](https://example.org) and [bad](javascript:alert(1)).

![picture](https://elsewhere.example/spy.png)
"""


@pytest.fixture
def page(browser: FlaskClient, ada: User, protocols: None) -> FlaskClient:
    """Ada, signed in."""
    assert post(browser, "/sign-in", user="ada", password=PASSWORD).status_code == 303
    return browser


def token_of(browser: FlaskClient, address: str) -> str:
    found = re.search(r'name="csrf_token" value="([^"]+)"', browser.get(address, **BASE).text)
    assert found
    return found[1]


def post(browser: FlaskClient, address: str, *, at: str | None = None, **form: Any) -> TestResponse:
    token = token_of(browser, at or address)
    answer: TestResponse = browser.post(address, data={"csrf_token": token, **form}, **BASE)
    return answer


def add(browser: FlaskClient, **about: Any) -> TestResponse:
    return post(browser, "/protocols", file=(io.BytesIO(archive(**about)), "mine.tar"))


def test_the_catalogue_is_searched(page: FlaskClient) -> None:
    add(page)
    assert "Greeting" in page.get("/protocols", **BASE).text
    found = page.get("/protocols?text=greet", **BASE).text
    assert "Greeting" in found
    assert "/protocols/mine" not in found
    assert "has these words" in page.get("/protocols?text=nothing", **BASE).text


def test_one_is_added_and_shown(page: FlaskClient) -> None:
    assert add(page, files={"README.md": README}).headers["Location"] == "/protocols/mine"
    shown = page.get("/protocols/mine", **BASE).text
    assert "<em>small</em>" in shown
    assert "<script>alert" not in shown
    assert 'href="javascript' not in shown
    assert "<img" not in shown
    assert '<a href="https://example.org">good</a>' in shown
    assert "https://labfleet.test/git/mine.git" in shown
    assert "Only you." in shown


def test_a_faulty_one_is_told_by_file_and_line(page: FlaskClient) -> None:
    answer = add(page, files={"main.py": "def f(:\n"})
    assert answer.status_code == 422
    assert "<code>main.py:1</code>" in answer.text
    assert post(page, "/protocols").status_code == 422
    assert page.get("/protocols/mine", **BASE).status_code == 404


def test_versions_and_what_changed(page: FlaskClient) -> None:
    add(page)
    add(page, version="1.1.0", files={"main.py": "print('<b>')\n"})
    earlier = page.get("/protocols/mine?version=1.0.0", **BASE).text
    assert "This is an earlier version" in earlier
    changed = page.get("/protocols/mine/compare", **BASE).text
    assert "+print(&#39;&lt;b&gt;&#39;)" in changed
    assert "Parameters, inputs, outputs and needs are the same." in changed
    assert page.get("/protocols/mine?version=9", **BASE).status_code == 404


def test_who_may_use_it(page: FlaskClient, make_user: Callable[..., User]) -> None:
    make_user("bob")
    add(page)
    assert post(page, "/protocols/mine/share", at="/protocols/mine", user="bob").status_code == 303
    assert "Take back" in page.get("/protocols/mine", **BASE).text
    post(page, "/protocols/mine/unshare", at="/protocols/mine", user="bob")
    assert "Only you." in page.get("/protocols/mine", **BASE).text
    assert post(page, "/protocols/mine/publish", at="/protocols/mine").status_code == 303
    assert "Everybody in the lab." in page.get("/protocols/mine", **BASE).text
    post(page, "/protocols/mine/withdraw", at="/protocols/mine")
    unknown = post(page, "/protocols/mine/share", at="/protocols/mine", user="nobody")
    assert unknown.status_code == 404
    assert "There is no user" in unknown.text


def test_the_lab_s_own_is_shown_and_not_to_be_changed(page: FlaskClient) -> None:
    shown = page.get("/protocols/greet", **BASE).text
    assert "the lab&#39;s own" in shown or "the lab's own" in shown
    assert "/protocols/greet/publish" not in shown
    assert post(page, "/protocols/greet/withdraw", at="/protocols").status_code == 403


def test_deleting_it(page: FlaskClient) -> None:
    add(page)
    gone = post(page, "/protocols/mine/delete", at="/protocols/mine")
    assert gone.headers["Location"] == "/protocols"
    assert page.get("/protocols/mine", **BASE).status_code == 404
