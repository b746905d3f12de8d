"""Whether the parts that the webserver needs answer: database, store, queue tier."""

from __future__ import annotations

import ssl
import time
from threading import Lock

import httpx
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from labfleet.config import WebserverSettings
from labfleet.web.services import services

# Anybody may ask, so the parts are asked at most this often.
REMEMBER_SECONDS = 2.0


class _Remembered:
    def __init__(self) -> None:
        self.lock = Lock()
        self.at = float("-inf")
        self.checks: dict[str, bool] = {}


_remembered = _Remembered()


def checks() -> dict[str, bool]:
    """Part → whether it answers, at most two seconds old."""
    with _remembered.lock:
        if time.monotonic() - _remembered.at > REMEMBER_SECONDS:
            _remembered.checks = {"database": _database(), "store": _store(), "queue": _queue()}
            _remembered.at = time.monotonic()
        return dict(_remembered.checks)


def forget() -> None:
    """Ask the parts anew at the next call."""
    with _remembered.lock:
        _remembered.at = float("-inf")


def _database() -> bool:
    try:
        with services().sessions() as db:
            return db.scalar(select(1)) == 1
    except SQLAlchemyError:
        return False


def _store() -> bool:
    return services().store.writable()


def _queue() -> bool:
    """Whether one machine of the queue tier takes messages."""
    settings = services().settings
    return any(_runner(settings, api) for api in settings.dispatcher.runner_apis)


def _runner(settings: WebserverSettings, api: str) -> bool:
    """Any answer but a server's error counts: the web process has no password for the queue tier."""
    ca, timeout = settings.dispatcher.ca_file, settings.web.probe_timeout_seconds
    try:
        context = ssl.create_default_context(cafile=str(ca) if ca else None)
        answer = httpx.get(f"{api}/health", verify=context, timeout=timeout, trust_env=False)
    except (httpx.HTTPError, OSError):
        return False
    return answer.status_code < 500
