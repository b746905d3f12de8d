"""What web and sender share of webhooks: which URL a job may have, the announcement, the signature."""

from __future__ import annotations

import hashlib
import hmac
import uuid
from collections.abc import Sequence

import httpx
from sqlalchemy import text
from sqlalchemy.orm import Session

from labfleet.config import WebhooksSection
from labfleet.db.models import Delivery, Job
from labfleet.errors import InvalidJob, WebhooksOff

CHANNEL = "labfleet_webhooks"
MAX_PORT = 65535


def check(url: str | None, section: WebhooksSection) -> None:
    """Raise `WebhooksOff` or `InvalidJob` unless a job may have this webhook.

    Where the URL's host leads is not looked at here: that is decided by the sender at each call.
    """
    if url is None:
        return
    if not section.allowed_networks:
        raise WebhooksOff("This Labfleet calls no webhooks, so the job can't have one.")
    if fault := fault_of(url):
        raise InvalidJob([{"path": "webhook", "message": fault}])


def fault_of(url: str) -> str:
    """What is wrong with the URL of a webhook, for its own sake; empty if nothing is."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        return f"is no URL: {error}"
    if parsed.scheme not in {"http", "https"}:
        return "must begin with http:// or https://"
    if parsed.userinfo:
        return "must have no name and no password in it: the signature says who calls"
    if parsed.port is not None and not 0 < parsed.port <= MAX_PORT:
        return f"must have a port of 1 to {MAX_PORT}"
    return "" if parsed.host else "must name a host"


def announce(session: Session, job: Job) -> None:
    """Have the job's webhook called about its (final) state; the sender wakes when this commits."""
    payload = {"job": str(job.id), "state": job.state, "label": job.label}
    session.add(Delivery(job_id=job.id, url=job.webhook, payload=payload))
    session.execute(text("SELECT pg_notify(:channel, '')"), {"channel": CHANNEL})


def secret_of(user_id: uuid.UUID, keys: Sequence[str]) -> str:
    """The secret with which calls of this user's webhooks are signed; it follows from the first key."""
    return hmac.new(keys[0].encode(), f"webhook:{user_id}".encode(), hashlib.sha256).hexdigest()


def signature(secret: str, body: bytes, at: int) -> str:
    """The value of `X-Labfleet-Signature` for a body that is sent at this Unix time."""
    signed = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={signed}"
