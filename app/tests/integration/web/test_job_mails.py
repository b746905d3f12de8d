"""Mails on the ends of jobs, as people ask for them: the account's page, the form of a job, the API."""

from __future__ import annotations

import re
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select, update
from sqlalchemy.orm import Session, sessionmaker

from labfleet.config import MailSection, WebserverSettings
from labfleet.db.models import Job, Notice, User

PASSWORD = "correct horse battery"
BASE = {"base_url": "https://labfleet.test"}
FORM = "/jobs/new?protocol=greet"
Sessions = sessionmaker[Session]


@pytest.fixture
def with_mail(settings: WebserverSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    section = MailSection(host="mail.test", sender="labfleet@lab.test")
    monkeypatch.setitem(settings.__dict__, "mail", section)


def set_address(sessions: Sessions) -> None:
    with sessions.begin() as db:
        db.execute(update(User).values(mail="ada@lab.test"))


def get(browser: FlaskClient, path: str) -> str:
    answer = browser.get(path, **BASE)
    assert answer.status_code == 200
    return answer.text


def post(browser: FlaskClient, path: str, **form: Any) -> Any:
    found = re.search(r'name="csrf_token" value="([^"]+)"', get(browser, "/profile"))
    assert found
    return browser.post(path, data={"csrf_token": found[1], **form}, **BASE)


@pytest.fixture
def signed_in(browser: FlaskClient, ada: User, protocols: None) -> FlaskClient:
    found = re.search(r'name="csrf_token" value="([^"]+)"', get(browser, "/sign-in"))
    assert found
    form = {"user": "ada", "password": PASSWORD, "csrf_token": found[1]}
    assert browser.post("/sign-in", data=form, **BASE).status_code == 303
    return browser


def wanted(sessions: Sessions) -> list[bool | None]:
    with sessions() as db:
        return list(db.scalars(select(Job.mail).order_by(Job.created_at)))


def box(page: str) -> str:
    found = re.search(r'<input type="checkbox" name="mail"[^>]*>', page)
    assert found
    return found[0]


@pytest.mark.usefixtures("with_mail")
def test_the_page_of_the_account_keeps_the_choice(signed_in: FlaskClient, sessions: Sessions) -> None:
    assert "They need a mail address" in get(signed_in, "/profile")
    refused = post(signed_in, "/profile/job-mails", jobs="each")
    assert refused.status_code == 422 and "no confirmed mail address" in refused.text
    set_address(sessions)
    assert 'value="never" checked' in get(signed_in, "/profile")
    assert post(signed_in, "/profile/job-mails", jobs="digest").status_code == 303
    page = get(signed_in, "/profile?chosen=1")
    assert 'value="digest" checked' in page and "for all jobs that end within 1 hour." in page
    for none in ("always", ""):
        assert post(signed_in, "/profile/job-mails", jobs=none).status_code == 422


def test_pages_say_that_there_are_no_mails(signed_in: FlaskClient, sessions: Sessions) -> None:
    set_address(sessions)
    assert "There are none: the admin of this Labfleet has not set mail up." in get(signed_in, "/profile")
    page = get(signed_in, FORM)
    assert "This Labfleet sends no mails" in page and " disabled" in box(page)
    answer = post(signed_in, FORM, mail="1")
    assert answer.status_code == 422 and "sends no mails" in answer.text
    assert wanted(sessions) == []


@pytest.mark.usefixtures("with_mail")
def test_the_form_of_a_job_has_a_box(signed_in: FlaskClient, sessions: Sessions) -> None:
    page = get(signed_in, FORM)
    assert " disabled" in box(page) and "no confirmed address yet" in page
    set_address(sessions)
    assert " disabled" not in box(get(signed_in, FORM)) and " checked" not in box(get(signed_in, FORM))
    assert post(signed_in, FORM, mail="1").status_code == 303
    assert post(signed_in, FORM).status_code == 303
    assert wanted(sessions) == [True, None]
    # What was ticked is ticked when the form comes back.
    assert " checked" in box(post(signed_in, FORM, mail="1", **{"p-times": "99"}).text)


@pytest.mark.usefixtures("with_mail")
def test_who_gets_one_for_each_job_may_take_the_tick_away(signed_in: FlaskClient, sessions: Sessions) -> None:
    set_address(sessions)
    post(signed_in, "/profile/job-mails", jobs="each")
    assert " checked" in box(get(signed_in, FORM))
    assert post(signed_in, FORM).status_code == 303
    assert post(signed_in, FORM, mail="1").status_code == 303
    assert wanted(sessions) == [False, True]


@pytest.mark.usefixtures("with_mail")
def test_by_the_api(api: Any, sessions: Sessions) -> None:
    told = {"jobs": "never", "address": None, "on": True, "digest_minutes": 60}
    assert api("GET", "me/mail").json == told
    for answer in (
        api("PUT", "me/mail", json={"jobs": "each"}),
        api("POST", "jobs", json={"protocol": "greet", "mail": True}),
        api("POST", "jobs?dry_run=true", json={"protocol": "greet", "mail": True}),
    ):
        assert (answer.status_code, answer.json["code"]) == (422, "no_address")
    set_address(sessions)
    changed = {**told, "jobs": "each", "address": "ada@lab.test"}
    assert api("PUT", "me/mail", json={"jobs": "each"}).json == changed
    assert api("GET", "me/mail").json == changed
    assert api("PUT", "me/mail", json={"jobs": "always"}).status_code == 422
    jobs = [api.submit(), api.submit(mail=False), api.submit(mail=True)]
    assert [job["mail"] for job in jobs] == [None, False, True]
    for job in jobs:
        api("POST", f"jobs/{job['id']}/cancel")
    with sessions() as db:
        asked = {str(row.job_id): row.asked for row in db.scalars(select(Notice))}
    assert asked == {jobs[0]["id"]: False, jobs[2]["id"]: True}


def test_by_the_api_without_mail(api: Any, sessions: Sessions) -> None:
    set_address(sessions)
    for path in ("jobs", "jobs?dry_run=true"):
        answer = api("POST", path, json={"protocol": "greet", "mail": True})
        assert (answer.status_code, answer.json["code"]) == (422, "mail_off")
    assert api("PUT", "me/mail", json={"jobs": "digest"}).json["code"] == "mail_off"
    assert api("PUT", "me/mail", json={"jobs": "never"}).json["on"] is False
