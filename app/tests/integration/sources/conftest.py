"""The processes `labfleet loader` and `labfleet fetcher` as systemd starts them, and a web server."""

from __future__ import annotations

import base64
import http.server
import os
import socket
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from resident import Residents, database_section, wait_for
from sqlalchemy import URL
from sqlalchemy.orm import Session, sessionmaker

from labfleet.datasets.store import BlobStore
from labfleet.db.models import Fetch, Source, SourceHandler, User
from labfleet.sources import fetches, service
from labfleet.sources.spec import Definition
from labfleet.sources.vault import Vault

from . import databases

Sessions = sessionmaker[Session]
KEYS = ["the first seals", "an older one"]


@dataclass
class Site:
    """A web server of some files. `gate`: answers wait until it is set."""

    port: int = 0
    files: dict[str, bytes] = field(default_factory=dict)
    headers: dict[str, dict[str, str]] = field(default_factory=dict)
    status: dict[str, int] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    # Below it lie git repositories; `cut`: so many bytes of a pack are sent before the server goes away.
    repositories: Path | None = None
    login: str = ""
    cut: int | None = None
    gate: threading.Event = field(default_factory=threading.Event)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    site.gate.set()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.asked.append((self.path, dict(self.headers)))
            site.gate.wait(60)
            if self.path.startswith("/git/"):
                self.git(b"")
                return
            body = site.files.get(self.path)
            self.send_response(site.status.get(self.path, 200 if body is not None else 404))
            for name, value in (
                {"Content-Length": str(len(body or b""))} | site.headers.get(self.path, {})
            ).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body or b"")

        def do_POST(self) -> None:
            site.asked.append((self.path, dict(self.headers)))
            self.git(self.rfile.read(int(self.headers["Content-Length"])))

        def git(self, sent: bytes) -> None:
            """As git's own program answers."""
            wanted = base64.b64encode(site.login.encode()).decode()
            if site.login and self.headers.get("Authorization") != f"Basic {wanted}":
                self.send_error(401)
                return
            path, _, query = self.path.partition("?")
            environment = {
                "PATH": os.environ["PATH"],
                "GIT_PROJECT_ROOT": str(site.repositories),
                "GIT_HTTP_EXPORT_ALL": "1",
                "GIT_CONFIG_NOSYSTEM": "1",
                "PATH_INFO": path.removeprefix("/git"),
                "QUERY_STRING": query,
                "REQUEST_METHOD": self.command,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "CONTENT_LENGTH": str(len(sent)),
            }
            program = ["git", "http-backend"]
            done = subprocess.run(program, input=sent, env=environment, capture_output=True, check=False)
            head, _, body = done.stdout.partition(b"\r\n\r\n")
            named = dict(each.split(": ", 1) for each in head.decode().splitlines())
            self.send_response(int(named.pop("Status", "200").split()[0]))
            for name, value in (named | {"Content-Length": str(len(body))}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body if site.cut is None or self.command == "GET" else body[: site.cut])

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield site
    site.gate.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority that the lab trusts, and a certificate of this machine."""
    folder = tmp_path_factory.mktemp("tls")
    databases.certificates(folder)
    return folder


@pytest.fixture(scope="session")
def mariadb_port() -> int:
    """Where the MariaDB of the tests that want one listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture(scope="session")
def s3_port() -> int:
    """Where the S3 server of the tests that want one listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    store = BlobStore(tmp_path / "store")
    store.prepare()
    return store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder that is open to sources."""
    (tmp_path / "open").mkdir()
    return tmp_path / "open"


@dataclass
class Lab:
    """Loader and fetcher; the other verbs are those of a user."""

    sessions: Sessions
    user: User
    store: BlobStore
    folder: Path
    work: Path
    protocols: Path
    run: Callable[[str], subprocess.Popen[str]]
    # The fetcher's interpreter, where it is another one.
    python: Path | None = None
    processes: dict[str, subprocess.Popen[str]] = field(default_factory=dict)

    def start(self, name: str) -> subprocess.Popen[str]:
        self.processes[name] = self.run(name)
        return self.processes[name]

    def source(
        self,
        name: str = "cells",
        lifetime: int = 3600,
        given: dict[str, str] | None = None,
        **definition: Any,
    ) -> uuid.UUID:
        with self.sessions.begin() as db:
            made = service.add_source(
                db,
                db.merge(self.user),
                name,
                Definition.model_validate(definition),
                lifetime_seconds=lifetime,
                given=given,
                vault=Vault(KEYS),
            )
            return made.id

    def ask(self, source: uuid.UUID, *, anew: bool = False) -> Fetch:
        with self.sessions.begin() as db:
            return fetches.ask(db, db.merge(self.user), source, anew=anew)[0]

    def seen(self, fetch: Fetch) -> Fetch:
        with self.sessions() as db:
            return db.get_one(Fetch, fetch.id)

    def ended(self, fetch: Fetch) -> Fetch:
        wait_for(lambda: self.seen(fetch).state not in {"queued", "running"})
        return self.seen(fetch)

    def fetched(self, source: uuid.UUID, *, anew: bool = False) -> Fetch:
        return self.ended(self.ask(source, anew=anew))

    def content(self, fetch: Fetch) -> Path:
        """The file that was loaded."""
        with self.sessions() as db:
            made = db.get_one(Source, fetch.source_id).dataset
            assert made is not None
            assert made.id == fetch.dataset_id
            return self.store.path(made.sha256)


@pytest.fixture
def lab(
    tmp_path: Path,
    database_url: URL,
    residents: Residents,
    sessions: Sessions,
    user: User,
    store: BlobStore,
    folder: Path,
    site: Site,
    tls: Path,
    mariadb_port: int,
    s3_port: int,
) -> Iterator[Lab]:
    """Loader and fetcher at work, with the web server's address open to them."""
    work = tmp_path / "work"
    work.mkdir()
    settings = f"""
        [web]
        public_url = "https://lab.example"
        store = "{store.root}"
        protocols = "{tmp_path / "protocols"}"
        {database_section(database_url)}
        user = "{database_url.username}"
        [dispatcher]
        runner_urls = ["http://127.0.0.1:9"]
        [sources]
        networks = ["127.0.0.0/8", "0.0.0.0/0", "{database_url.host}/32"]
        ports = [{site.port}, 9, {mariadb_port}, {s3_port}, {database_url.port or 5432}]
        ca_file = "{tls / "ca.crt"}"
        folders = ["{folder}"]
        clear_credentials = true
        socket = "{tmp_path / "fetcher.sock"}"
        retry_seconds = 0.1
        silent_seconds = 30
        seconds = 200
        max_bytes = 2000000
        [protocols]
        max_push_bytes = 400000
        max_push_objects = 60
        """
    credentials = {"database_password": database_url.password or "", "source_keys": "\n".join(KEYS)}

    def run(name: str) -> subprocess.Popen[str]:
        python = lab.python if name == "fetcher" else None
        return residents.start(name, settings, credentials, python=python, TMPDIR=str(work))

    lab = Lab(sessions, user, store, folder, work, tmp_path / "protocols", run)

    def known() -> bool:
        with sessions() as db:
            return db.query(SourceHandler).count() > 0

    try:
        lab.start("fetcher")
        wait_for((tmp_path / "fetcher.sock").exists)
        lab.start("loader")
        wait_for(known)
        yield lab
    finally:
        for process in lab.processes.values():
            process.terminate()
            _, log = process.communicate(timeout=120)
            print(log)
