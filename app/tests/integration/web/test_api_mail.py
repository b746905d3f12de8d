"""Mail as an admin looks after it by the API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from labfleet.config import MailSection, WebserverSettings
from labfleet.db.models import User


@pytest.fixture
def with_mail(settings: WebserverSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    section = MailSection(host="mail.test", sender="labfleet@lab.test")
    monkeypatch.setitem(settings.__dict__, "mail", section)


def test_without_a_server_it_is_said_whom_to_ask(caller: Callable[[User], Any], admin: User) -> None:
    api = caller(admin)
    assert api("GET", "mail").json["on"] is False
    answer = api("POST", "mail/test", json={"address": "ada@lab.test"})
    assert (answer.status_code, answer.json["code"]) == (422, "mail_off")
    assert "webserver_mail_host" in answer.json["hint"]


def test_a_mail_to_try_it_out(caller: Callable[[User], Any], admin: User, with_mail: None) -> None:
    api = caller(admin)
    answer = api("POST", "mail/test", json={"address": "ada@lab.test"})
    assert answer.status_code == 202
    mail = api("GET", f"mail/messages/{answer.json['id']}").json
    assert (mail["state"], mail["address"], mail["tries"]) == ("waiting", "ada@lab.test", 0)
    assert "body" not in mail
    assert api("GET", "mail/messages?waiting=true").json["items"] == [mail]
    told = api("GET", "mail").json
    assert (told["on"], told["server"], told["sender"]) == (True, "mail.test:587", "labfleet@lab.test")
    assert told["waiting"] == 1
    (entry, *_) = api("GET", "audit?kind=mail").json["items"]
    assert (entry["action"], entry["subject"]) == ("mail.tried", "ada@lab.test")


@pytest.mark.parametrize(
    "address", ["ada", "ada@", "a b@lab.test", "ada@lab.test\nBcc: x@y.z", "Ada <a@b.c>"]
)
def test_what_is_no_address_is_refused(
    caller: Callable[[User], Any], admin: User, with_mail: None, address: str
) -> None:
    answer = caller(admin)("POST", "mail/test", json={"address": address})
    assert (answer.status_code, answer.json["code"]) == (422, "invalid")


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "mail"), ("GET", "mail/messages"), ("POST", "mail/test")]
)
def test_others_are_told_nothing(caller: Callable[[User], Any], user: User, method: str, path: str) -> None:
    answer = caller(user)(method, path, **({"json": {"address": "a@b.c"}} if method == "POST" else {}))
    assert answer.status_code == 403
