from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Network
from typing import Any

import pytest

from labfleet.config import WebhooksSection, WebserverSettings
from labfleet.db.models import User
from labfleet.jobs.webhooks import secret_of

HOOK = {"protocol": "greet", "webhook": "https://example.org/hook"}


@pytest.fixture
def settings(settings: WebserverSettings) -> WebserverSettings:
    """As they are, with webhooks."""
    calls = WebhooksSection(allowed_networks=[IPv4Network("192.0.2.0/24")])
    return settings.model_copy(update={"webhooks": calls})


class TestOff:
    @pytest.fixture
    def settings(self, settings: WebserverSettings) -> WebserverSettings:
        return settings.model_copy(update={"webhooks": WebhooksSection()})

    @pytest.mark.parametrize("path", ["jobs", "jobs?dry_run=true"])
    def test_a_job_with_a_webhook_is_refused(self, api: Any, path: str) -> None:
        answer = api("POST", path, json=HOOK)
        assert (answer.status_code, answer.json["code"]) == (422, "webhooks_off")
        assert "webserver_webhook_networks" in answer.json["hint"]
        assert api("GET", "jobs").json["items"] == []


def test_the_end_of_a_job_becomes_a_delivery(api: Any) -> None:
    job = api("POST", "jobs", json=HOOK).json
    assert job["webhook"] == HOOK["webhook"]
    assert api("GET", f"jobs/{job['id']}/deliveries").json["items"] == []
    api("POST", f"jobs/{job['id']}/cancel")
    (delivery,) = api("GET", f"jobs/{job['id']}/deliveries").json["items"]
    assert delivery["url"] == HOOK["webhook"]
    assert (delivery["tries"], delivery["delivered_at"], delivery["given_up_at"]) == (0, None, None)
    assert delivery["payload"] == {"job": job["id"], "state": "cancelled", "label": ""}


@pytest.mark.parametrize("path", ["jobs", "jobs?dry_run=true"])
@pytest.mark.parametrize(
    "url", ["https://ada:secret@example.org/", "https://example.org:99999/", "https:///x"]
)
def test_a_url_that_is_none_is_refused_with_its_place(api: Any, path: str, url: str) -> None:
    answer = api("POST", path, json=HOOK | {"webhook": url})
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_job")
    assert [fault["path"] for fault in answer.json["errors"]] == ["webhook"]


def test_everybody_has_a_secret_of_his_own(
    caller: Callable[[User], Any], user: User, admin: User, parts: Any
) -> None:
    told = [caller(one)("GET", "me/webhook-secret") for one in (user, admin, user)]
    assert [answer.json for answer in told] == [
        {"secret": secret_of(one.id, parts.signing_keys)} for one in (user, admin, user)
    ]
    assert {answer.headers["Cache-Control"] for answer in told} == {"no-store"}


def test_nobody_unknown_gets_a_secret(app: Any) -> None:
    assert app.test_client().get("/api/v1/me/webhook-secret").status_code == 401
