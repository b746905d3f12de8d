"""The web application on a real database, a real store and real git repositories."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from apiflask import APIFlask
from flask.testing import FlaskClient
from sqlalchemy.orm import Session, sessionmaker
from werkzeug.test import TestResponse

from labfleet import config
from labfleet.config import (
    DispatcherSection,
    JobsSection,
    LimitsSection,
    ProtocolsSection,
    WebSection,
    WebserverSettings,
)
from labfleet.datasets.logs import LogStore
from labfleet.datasets.store import BlobStore
from labfleet.db.models import User
from labfleet.jobs.tokens import sign_attempt
from labfleet.protocols.service import import_protocol
from labfleet.protocols.store import ProtocolStore
from labfleet.sources.vault import Vault
from labfleet.users import second_factor
from labfleet.users import service as users
from labfleet.web import probes
from labfleet.web.factory import create_app
from labfleet.web.ratelimit import RateLimit
from labfleet.web.services import Services

PASSWORD = "correct horse battery"
KEYS = ["the first signs", "an older one"]
WORKER_TOKEN = "lw_of-worker-one"
MANIFEST = """
labfleet: 1
name: greet
version: 1.0.0
title: Greeting
description: Greets everybody.
key: python
command: [python3, main.py]
parameters:
  type: object
  properties:
    who: {type: string, title: Whom, default: world}
    times: {type: integer, unit: greetings, minimum: 1, maximum: 9, default: 1}
    style: {type: string, enum: [plain, loud], default: plain}
  additionalProperties: false
inputs:
  table: {title: Table, formats: [csv], optional: true}
outputs:
  greeting: {path: greeting.txt, kind: text, title: The greeting}
  counts: {path: counts.csv, kind: table, title: Counts, units: {count: words}}
  plot: {path: plot.svg, kind: plot, title: A plot}
needs: {cores: 1, memory: 256M, time: 1m}
"""


@pytest.fixture
def credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The unit's secrets."""
    directory = tmp_path / "credentials"
    directory.mkdir()
    digest = hashlib.sha256(WORKER_TOKEN.encode()).hexdigest()
    secrets = {
        "session_key": "a session key of some length\nan older session key\n",
        "signing_keys": "\n".join(KEYS),
        "source_keys": "of sources",
        "worker_tokens": f'{{"worker-1": "{digest}"}}',
    }
    for name, text in secrets.items():
        (directory / name).write_text(text, encoding="utf-8")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(directory))
    return directory


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WebserverSettings:
    """Small limits, so that tests reach them."""
    (tmp_path / "webserver.toml").touch()
    monkeypatch.setenv("LABFLEET_CONFIG", str(tmp_path / "webserver.toml"))
    config.forget()
    web = WebSection(
        public_url="https://labfleet.test",
        store=tmp_path / "store",
        protocols=tmp_path / "protocols",
        max_upload_bytes=100_000,
        max_body_bytes=50_000,
        login_attempts=3,
        probe_timeout_seconds=1,
    )
    return WebserverSettings(
        web=web,
        dispatcher=DispatcherSection(runner_urls=["https://127.0.0.1:9"]),
        jobs=JobsSection(max_spec_bytes=200_000),
        protocols=ProtocolsSection(max_push_bytes=3_000_000),
        limits=LimitsSection(output_bytes=50_000, log_bytes=10_000, memory_bytes=128 * 1024 * 1024),
    )


@pytest.fixture
def parts(settings: WebserverSettings, sessions: sessionmaker[Session]) -> Services:
    """The services of the application under test."""
    store, logs = BlobStore(settings.web.store), LogStore(settings.web.store, settings.limits.log_bytes)
    store.prepare()
    logs.prepare()
    return Services(
        settings=settings,
        sessions=sessions,
        store=store,
        logs=logs,
        protocols=ProtocolStore(settings.web.protocols),
        signing_keys=KEYS,
        worker_tokens={"worker-1": [hashlib.sha256(WORKER_TOKEN.encode()).hexdigest()]},
        vault=Vault(["of sources"]),
        second_factors=second_factor.box(["of sources"]),
        logins=RateLimit(settings.web.login_attempts, settings.web.login_window_seconds),
    )


@pytest.fixture
def app(parts: Services, credentials: Path) -> Iterator[APIFlask]:
    """The application."""
    probes.forget()
    made = create_app(parts.settings, parts)
    made.config["TESTING"] = True
    made.config["PROPAGATE_BUGS"] = True
    yield made
    config.forget()


@pytest.fixture
def ada(sessions: sessionmaker[Session]) -> User:
    """A user with a password."""
    with sessions.begin() as db:
        return users.add_user(db, "ada", PASSWORD)


@pytest.fixture
def protocols(parts: Services, sessions: sessionmaker[Session], tmp_path: Path) -> None:
    """The protocol `greet`, in git and in the database."""
    tree = tmp_path / "greet"
    tree.mkdir()
    (tree / "protocol.yml").write_text(MANIFEST, encoding="utf-8")
    (tree / "main.py").write_text("print('hello')\n", encoding="utf-8")
    with sessions.begin() as db:
        import_protocol(db, parts.protocols, tree)


class Caller:
    """Calls the API with a token."""

    def __init__(self, client: FlaskClient, token: str, base: str = "/api/v1") -> None:
        self.client = client
        self.token = token
        self.base = base

    def __call__(self, method: str, path: str, **options: Any) -> TestResponse:
        headers = {"Authorization": f"Bearer {self.token}", **options.pop("headers", {})}
        return self.client.open(f"{self.base}/{path}", method=method, headers=headers, **options)

    def submit(self, **body: Any) -> dict[str, Any]:
        answer = self("POST", "jobs", json={"protocol": "greet", **body})
        assert answer.status_code == 201, answer.text
        job: dict[str, Any] = answer.json
        return job

    def upload(self, name: str, content: bytes) -> dict[str, Any]:
        answer = self("POST", f"datasets?name={name}", data=content)
        assert answer.status_code == 201, answer.text
        dataset: dict[str, Any] = answer.json
        return dataset


@pytest.fixture
def caller(app: APIFlask, sessions: sessionmaker[Session]) -> Callable[[User], Caller]:
    """`caller(user)`: the API as this user calls it."""

    def make(user: User) -> Caller:
        with sessions.begin() as db:
            return Caller(app.test_client(), users.issue_token(db, user, "test"))

    return make


@pytest.fixture
def api(caller: Callable[[User], Caller], user: User, protocols: None) -> Caller:
    """The API as an ordinary user calls it, with the protocol `greet`."""
    return caller(user)


@pytest.fixture
def attempt(app: APIFlask) -> Callable[..., Caller]:
    """`attempt(task, number)`: the attempt API with a good token."""

    def make(task: str, number: int = 1, key: str = KEYS[0]) -> Caller:
        token = sign_attempt(uuid.UUID(task), number, [key])
        return Caller(app.test_client(), token, f"/api/v1/attempts/{task}/{number}")

    return make


@pytest.fixture
def running(api: Caller, attempt: Callable[..., Caller]) -> Callable[..., tuple[dict[str, Any], Caller]]:
    """`running(**job)`: a job whose first attempt is claimed, and that attempt's API."""

    def make(**body: Any) -> tuple[dict[str, Any], Caller]:
        job = api.submit(**body)
        worker = attempt(job["tasks"][0]["id"])
        assert worker("POST", "claim", json={"worker": "worker-1", "claim_id": "c1"}).status_code == 200
        return job, worker

    return make


@pytest.fixture
def browser(app: APIFlask) -> FlaskClient:
    """A browser: keeps cookies."""
    return app.test_client()
