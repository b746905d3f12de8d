"""The second factor as a browser and as a program meet it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pyotp
import pytest
from apiflask import APIFlask
from flask.testing import FlaskClient
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker
from werkzeug.test import TestResponse

from labfleet.db.models import User
from labfleet.users import second_factor as factor
from labfleet.users import service as users
from labfleet.web.services import EXTENSION, Services

PASSWORD = "correct horse battery"
BASE = {"base_url": "https://labfleet.test"}
NOW = 1_800_000_015


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factor, "clock", lambda: float(NOW))


def post(browser: FlaskClient, page: str, path: str, **form: Any) -> TestResponse:
    found = re.search(r'name="csrf_token" value="([^"]+)"', browser.get(page, **BASE).text)
    assert found, page
    return browser.post(path, data={"csrf_token": found[1], **form}, **BASE)


def sign_in(browser: FlaskClient, name: str = "ada", password: str = PASSWORD) -> str:
    answer = post(browser, "/sign-in", "/sign-in?next=/jobs", user=name, password=password)
    return str(answer.headers.get("Location"))


def set_up(browser: FlaskClient) -> tuple[str, list[str]]:
    """Switch it on as a user does; the secret, and the recovery codes."""
    page = "/profile/second-factor"
    assert post(browser, page, page, password=PASSWORD).status_code == 303
    shown = browser.get(page, **BASE).text
    (secret,) = re.findall(r"<code[^>]*>([A-Z2-7]{32})</code>", shown)
    (picture,) = re.findall(r"<svg[^>]*viewBox[^>]*>.*?</svg>", shown.partition('class="qr"')[2])[:1]
    assert "style" not in picture and "<path" in picture
    done = post(browser, page, f"{page}/confirm", code=pyotp.TOTP(secret).at(NOW)).text
    codes = re.findall(r"\b[a-z2-7]{4}(?:-[a-z2-7]{4}){3}\b", done)
    assert len(codes) == 10
    again = browser.get(page, **BASE).text
    assert secret not in again and not any(code in again for code in codes)
    return secret, codes


@pytest.fixture
def signed_in(browser: FlaskClient, ada: User) -> FlaskClient:
    assert sign_in(browser) == "/jobs"
    return browser


def test_the_password_alone_opens_no_longer(signed_in: FlaskClient, app: APIFlask) -> None:
    secret, codes = set_up(signed_in)
    other, otp = app.test_client(), pyotp.TOTP(secret)
    assert sign_in(other) == "/sign-in/code?next=%2Fjobs"
    assert other.get("/jobs", **BASE).status_code == 303
    step = "/sign-in/code?next=/jobs"
    for wrong in ("", "12", otp.at(NOW)):  # the last was used when it was set up
        answer = post(other, step, step, code=wrong)
        assert answer.status_code == 401 and 'role="alert"' in answer.text
    assert post(other, step, step, code=otp.at(NOW + 30)).status_code == 303
    assert other.get("/jobs", **BASE).status_code == 200
    third = app.test_client()
    sign_in(third)
    assert post(third, step, step, code=otp.at(NOW + 30)).status_code == 401
    assert post(third, step, step, code=codes[3]).headers["Location"] == "/jobs"


def test_the_code_is_asked_for_after_the_password_only(browser: FlaskClient, ada: User) -> None:
    answer = browser.get("/sign-in/code", **BASE)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/sign-in?next=%2F")


@pytest.mark.parametrize("how", ["late", "another password", "disabled"])
def test_half_a_sign_in_does_not_last(
    signed_in: FlaskClient,
    app: APIFlask,
    sessions: sessionmaker[Session],
    ada: User,
    parts: Services,
    how: str,
) -> None:
    _, codes = set_up(signed_in)
    other, step = app.test_client(), "/sign-in/code"
    sign_in(other)
    assert other.get(step, **BASE).status_code == 200
    with sessions.begin() as db:
        if how == "another password":
            users.change_password(db, ada, "another correct horse")
        elif how == "disabled":
            db.execute(text("UPDATE users SET disabled_at = clock_timestamp()"))
    if how == "late":
        web = parts.settings.web.model_copy(update={"second_factor_seconds": 0})
        settings = parts.settings.model_copy(update={"web": web})
        app.extensions[EXTENSION] = replace(parts, settings=settings)
    form = post(other, "/sign-in", step, code=codes[0])
    assert form.headers["Location"].startswith("/sign-in?")
    assert other.get("/jobs", **BASE).status_code == 303


def test_guessing_codes_is_slowed_down(signed_in: FlaskClient, app: APIFlask) -> None:
    _, codes = set_up(signed_in)
    for _ in range(3):
        other, step = app.test_client(), "/sign-in/code"
        sign_in(other)
        assert post(other, step, step, code="000000").status_code == 401
    answer = post(other, step, step, code=codes[0])
    assert answer.status_code == 429 and int(answer.headers["Retry-After"]) > 0


def test_every_change_asks_for_the_password(signed_in: FlaskClient) -> None:
    page = "/profile/second-factor"
    assert post(signed_in, page, f"{page}/codes", password=PASSWORD).status_code == 409
    set_up(signed_in)
    assert post(signed_in, page, f"{page}/codes", password="wrong").status_code == 401
    fresh = post(signed_in, page, f"{page}/codes", password=PASSWORD).text
    assert len(re.findall(r"\b[a-z2-7]{4}(?:-[a-z2-7]{4}){3}\b", fresh)) == 10
    assert post(signed_in, page, f"{page}/remove", password="wrong").status_code == 401
    assert "Switch it off" in signed_in.get(page, **BASE).text
    assert post(signed_in, page, f"{page}/remove", password=PASSWORD).status_code == 303
    assert "Set it up" in signed_in.get(page, **BASE).text


def test_programs_send_the_code_once_and_then_their_token(
    signed_in: FlaskClient, app: APIFlask, caller: Callable[[User], Any], ada: User
) -> None:
    before = caller(ada)
    secret, codes = set_up(signed_in)
    login = {"user": "ada", "password": PASSWORD}
    client = app.test_client()
    answer = client.post("/api/v1/login", json=login)
    assert (answer.status_code, answer.json["code"]) == (401, "second_factor_needed")
    answer = client.post("/api/v1/login", json={**login, "code": "000000"})
    assert (answer.status_code, answer.json["code"]) == (401, "unauthorized")
    wrong = client.post("/api/v1/login", json={**login, "password": "wrong", "code": codes[0]})
    assert wrong.status_code == 401  # and the code is not used up
    for code in (codes[0], pyotp.TOTP(secret).at(NOW + 30)):
        token = client.post("/api/v1/login", json={**login, "code": code}).json["token"]
        assert client.get("/api/v1/me", headers={"Authorization": f"Bearer {token}"}).status_code == 200
    assert before("GET", "me").status_code == 200


def test_admins_may_have_to_have_one(
    browser: FlaskClient, app: APIFlask, parts: Services, sessions: sessionmaker[Session], caller: Any
) -> None:
    web = parts.settings.web.model_copy(update={"admins_need_second_factor": True})
    app.extensions[EXTENSION] = replace(parts, settings=parts.settings.model_copy(update={"web": web}))
    with sessions.begin() as db:
        root = users.add_user(db, "root", PASSWORD, is_admin=True)
        users.add_user(db, "ada", PASSWORD)
    assert sign_in(browser, "root") == "/jobs"
    for path in ("/jobs", "/profile", "/workers"):
        assert browser.get(path, **BASE).headers["Location"] == "/profile/second-factor"
    form = {"name": "mine", "days": "30"}
    assert post(browser, "/profile/second-factor", "/profile/tokens", **form).status_code == 303  # made none
    refused = app.test_client().post("/api/v1/login", json={"user": "root", "password": PASSWORD})
    assert refused.status_code == 403
    assert "Set it up to go on" in browser.get("/profile/second-factor", **BASE).text
    set_up(browser)
    assert browser.get("/jobs", **BASE).status_code == 200
    assert "No tokens" in browser.get("/profile", **BASE).text
    other = app.test_client()
    assert sign_in(other) == "/jobs" and other.get("/jobs", **BASE).status_code == 200  # no admin
    assert caller(root)("GET", "me").status_code == 200
