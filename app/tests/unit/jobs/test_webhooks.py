from __future__ import annotations

import uuid
from ipaddress import IPv4Network

import pytest

from labfleet.config import WebhooksSection
from labfleet.errors import InvalidJob, WebhooksOff
from labfleet.jobs.webhooks import check, secret_of, signature

ADA = uuid.UUID("00000000-0000-4000-8000-000000000001")
BOB = uuid.UUID("00000000-0000-4000-8000-000000000002")
ON = WebhooksSection(allowed_networks=[IPv4Network("192.0.2.0/24")])


# Computed by `printf … | openssl dgst -sha256 -hmac KEY`.
SECRET_OF_ADA = "d351c9f72011d71d29ff4cfdbdf9a2f935db43cfeaf281d70b380cc00ebfe657"
SIGNED = "49f24e537407743fa4a0242bb63b94b9a47ee99cbbe071ccd8a22550ae411686"


def test_the_secret_follows_from_the_first_key_and_the_user() -> None:
    assert secret_of(ADA, ["first", "older"]) == SECRET_OF_ADA
    assert len({secret_of(ADA, ["first"]), secret_of(BOB, ["first"]), secret_of(ADA, ["older"])}) == 3


def test_a_signature_covers_time_and_body() -> None:
    assert signature("secret", b'{"a":1}', 1700000000) == f"t=1700000000,v1={SIGNED}"
    assert SIGNED not in signature("secret", b'{"a":1}', 1700000001)
    assert SIGNED not in signature("secret", b'{"a":2}', 1700000000)


@pytest.mark.parametrize(
    "url",
    [
        None,
        "https://example.org/hook",
        "http://example.org:8080/hook?a=b",
        "http://127.0.0.1/",
        "https://[2001:db8::1]:8443/x",
        "https://bücher.example/",
    ],
)
def test_urls_that_a_job_may_have(url: str | None) -> None:
    check(url, ON)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.org/",
        "file:///etc/passwd",
        "https://ada@example.org/",
        "https://ada:secret@example.org/",
        "https://192.0.2.1@127.0.0.1/",
        "https:///hook",
        "https://:8080/",
        "https://example.org:99999/",
        "https://example.org:0/",
        "https://[::1/",
        "https://exa\x00mple.org/",
        "",
    ],
)
def test_urls_that_a_job_may_not_have(url: str) -> None:
    with pytest.raises(InvalidJob) as caught:
        check(url, ON)
    assert [fault["path"] for fault in caught.value.extra["errors"]] == ["webhook"]


def test_without_a_network_webhooks_are_off() -> None:
    check(None, WebhooksSection())
    with pytest.raises(WebhooksOff) as caught:
        check("https://example.org/hook", WebhooksSection())
    assert caught.value.problem()["code"] == "webhooks_off"
    assert "webserver_webhook_networks" in caught.value.hint
