"""The real web application on a real port, and a worker's part played over HTTP."""

from __future__ import annotations

import hashlib
import logging
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from flask import Flask
from sqlalchemy import URL, Engine
from sqlalchemy.orm import Session, sessionmaker
from werkzeug.serving import BaseWSGIServer, make_server

from labfleet import config
from labfleet.cli import main
from labfleet.cli.credentials import Credentials, save
from labfleet.db.models import User
from labfleet.jobs.tokens import sign_attempt
from labfleet.users.service import add_user, issue_token
from labfleet.web import create_app

PASSWORD = "a long enough password"
SIGNING_KEY = "k" * 43
PROTOCOLS = Path(__file__).parents[3] / "protocols"


@dataclass
class Server:
    """The application behind a port, which can be taken away and given back."""

    app: Flask
    port: int = 0
    _server: BaseWSGIServer | None = None
    _thread: threading.Thread = field(default_factory=threading.Thread)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._server = make_server("127.0.0.1", self.port, self.app, threaded=True)
        self.port = self._server.port
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
            self._server = None


@dataclass(frozen=True)
class Ended:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


@dataclass
class Worker:
    """Does to a task what a worker does, over the attempt API."""

    url: str

    def claim(self, task: str, number: int = 1) -> dict[str, Any]:
        return dict(
            self._call("POST", task, number, "claim", json={"worker": "w1", "claim_id": f"c{number}"})
        )

    def tell(self, task: str, progress: float, text: str, number: int = 1) -> None:
        self._call("POST", task, number, "heartbeat", json={"progress": progress, "progress_text": text})

    def log(self, task: str, offset: int, content: bytes, number: int = 1) -> int:
        self._call("PUT", task, number, f"log?offset={offset}", content=content)
        return offset + len(content)

    def artifact(self, task: str, name: str, content: bytes, number: int = 1) -> None:
        headers = {"X-Content-SHA256": hashlib.sha256(content).hexdigest()}
        path = f"artifacts/{name}?kind=table&output=summary"
        self._call("PUT", task, number, path, content=content, headers=headers)

    def finish(self, task: str, outcome: str, number: int = 1, **more: Any) -> None:
        body = {"outcome": outcome, "failure": None, "exit_code": 0, "message": ""} | more
        self._call("POST", task, number, "finish", json=body)

    def _call(self, method: str, task: str, number: int, path: str, **arguments: Any) -> Any:
        token = sign_attempt(uuid.UUID(task), number, [SIGNING_KEY])
        headers = {"Authorization": f"Bearer {token}"} | arguments.pop("headers", {})
        url = f"{self.url}/api/v1/attempts/{task}/{number}/{path}"
        with httpx.Client(trust_env=False) as client:
            response = client.request(method, url, headers=headers, **arguments)
        assert response.is_success, response.text
        return response.json() if response.content else None


@pytest.fixture
def settings_file(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch, database_url: URL
) -> Iterator[Path]:
    """`webserver.toml` and credentials that name the test's database."""
    secrets = tmp_path / "credentials"
    secrets.mkdir()
    values = {
        "database_password": database_url.password or "",
        "signing_keys": SIGNING_KEY,
        "session_key": "s" * 43,
        "source_keys": "of sources",
        "worker_tokens": "{}",
    }
    for name, value in values.items():
        (secrets / name).write_text(value)
    path = tmp_path / "webserver.toml"
    path.write_text(
        f"""
        [web]
        public_url = "http://127.0.0.1"
        store = "{tmp_path / "store"}"
        protocols = "{tmp_path / "protocols"}"
        behind_nginx = false
        [database]
        hosts = ["{database_url.host}"]
        port = {database_url.port or 5432}
        name = "{database_url.database}"
        user = "{database_url.username}"
        [dispatcher]
        runner_urls = ["https://127.0.0.1:1"]
        [webhooks]
        allowed_networks = ["192.0.2.0/24"]
        """
    )
    monkeypatch.setenv("LABFLEET_CONFIG", str(path))
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(secrets))
    config.forget()
    yield path
    config.forget()


@pytest.fixture
def server(settings_file: Path) -> Iterator[Server]:
    """The running application."""
    app = create_app()
    # The server's log would mix with what a command prints; werkzeug makes a handler where it finds none.
    logging.getLogger().handlers.clear()
    logging.getLogger("werkzeug").handlers[:] = [logging.NullHandler()]
    server = Server(app)
    server.start()
    yield server
    server.stop()
    app.extensions["labfleet"].sessions.kw["bind"].dispose()


@pytest.fixture
def account(sessions: sessionmaker[Session]) -> None:
    """The user `ada` with a password."""
    with sessions.begin() as session:
        add_user(session, "ada", PASSWORD)


@pytest.fixture
def worker(server: Server) -> Worker:
    return Worker(server.url)


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Ended]:
    """`run("jobs", "--json")`: the command line as a user starts it, in a home of its own."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    for name in ("LABFLEET_URL", "LABFLEET_TOKEN", "LABFLEET_CA_FILE"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: str, stdin: str | StringIO = "") -> Ended:
        monkeypatch.setattr(sys, "argv", ["labfleet", *arguments])
        monkeypatch.setattr(sys, "stdin", StringIO(stdin) if isinstance(stdin, str) else stdin)
        with pytest.raises(SystemExit) as ended:
            main()
            sys.exit(0)
        captured = capsys.readouterr()
        code = ended.value.code
        return Ended(code if isinstance(code, int) else 0, captured.out, captured.err)

    return run


@pytest.fixture
def signed_in(
    server: Server, run: Callable[..., Ended], user: User, sessions: sessionmaker[Session]
) -> Callable[..., Ended]:
    """`run`, signed in, with the protocol `table-summary` on the server."""
    ended = run("protocol", "import", str(PROTOCOLS / "table-summary"))
    assert ended.code == 0, ended.err
    with sessions.begin() as session:
        save(Credentials(server.url, issue_token(session, session.merge(user))))
    return run
