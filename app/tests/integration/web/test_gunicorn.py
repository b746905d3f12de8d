"""Bodies over a real socket and the real server: chunked, cut off, refused while still being sent."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL

from labfleet.users import service as users
from labfleet.web.services import Services


@pytest.fixture
def server(
    parts: Services, credentials: Path, database_url: URL, tmp_path: Path
) -> Iterator[tuple[str, int]]:
    """Gunicorn on a free port of loopback, with the configuration and credentials of a unit."""
    (credentials / "database_password").write_text(database_url.password or "", encoding="utf-8")
    (tmp_path / "webserver.toml").write_text(
        f"""
        [web]
        public_url = "http://127.0.0.1"
        store = "{parts.store.root}"
        protocols = "{parts.settings.web.protocols}"
        max_upload_bytes = 4000000
        max_body_bytes = 100000
        behind_nginx = false
        [jobs]
        max_spec_bytes = 100000
        [database]
        hosts = ["{database_url.host}"]
        port = {database_url.port or 5432}
        name = "{database_url.database}"
        user = "{database_url.username}"
        [dispatcher]
        runner_urls = ["https://127.0.0.1:9"]
        """,
        encoding="utf-8",
    )
    with socket.create_server(("127.0.0.1", 0)) as free:
        address: tuple[str, int] = free.getsockname()
    program = [str(Path(sys.executable).with_name("gunicorn")), "--worker-class", "gthread", "--threads", "2"]
    program += ["--no-control-socket", "--bind", f"127.0.0.1:{address[1]}", "labfleet.web:create_app()"]
    with (tmp_path / "gunicorn.log").open("wb") as log:
        process = subprocess.Popen(program, stderr=log, env=dict(os.environ))
        try:
            _await(address, process)
            yield address
        finally:
            process.terminate()
            process.wait(60)


def _await(address: tuple[str, int], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(address, 1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    pytest.fail("gunicorn did not begin to listen")


@pytest.fixture
def token(parts: Services, user: Any) -> str:
    with parts.sessions.begin() as db:
        return users.issue_token(db, user)


def talk(
    address: tuple[str, int], token: str, head: str, *pieces: bytes, hang_up: bool = False
) -> tuple[int, Any]:
    """Send a request piece by piece; the status and the JSON that came back (0 for none)."""
    lines = [*head.splitlines(), "Host: x", f"Authorization: Bearer {token}", "Connection: close", "", ""]
    with socket.create_connection(address, 60) as connection:
        connection.sendall("\r\n".join(lines).encode())
        for piece in pieces:
            connection.sendall(piece)
        if hang_up:
            connection.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    if not answer:
        return 0, None
    header, _, body = answer.partition(b"\r\n\r\n")
    return int(header.split()[1]), json.loads(body)


def files(parts: Services) -> list[Path]:
    return [path for path in parts.store.root.rglob("*") if path.is_file()]


def test_a_chunked_upload(server: tuple[str, int], token: str, parts: Services) -> None:
    head = "POST /api/v1/datasets?name=x.csv HTTP/1.1\nTransfer-Encoding: chunked"
    status, dataset = talk(server, token, head, b"4\r\na,b\n\r\n", b"4\r\n1,2\n\r\n", b"0\r\n\r\n")
    assert (status, dataset["size"]) == (201, 8)
    assert parts.store.existing(dataset["sha256"]).read_bytes() == b"a,b\n1,2\n"


@pytest.mark.parametrize(
    ("head", "pieces"),
    [
        ("Content-Length: 1000000", [b"x" * 1000]),
        ("Content-Length: 3000000", [b"x" * 2_000_000]),
        ("Transfer-Encoding: chunked", [b"400\r\n", b"x" * 0x400, b"\r\n400\r\n", b"half"]),
    ],
)
def test_a_cut_off_upload_is_told_and_leaves_nothing(
    server: tuple[str, int], token: str, parts: Services, head: str, pieces: list[bytes]
) -> None:
    request = f"POST /api/v1/datasets?name=x.csv HTTP/1.1\n{head}"
    status, problem = talk(server, token, request, *pieces, hang_up=True)
    assert (status, problem["code"]) == (400, "upload_cut_off")
    assert files(parts) == []


def test_chunks_that_are_none_are_told(server: tuple[str, int], token: str, parts: Services) -> None:
    head = "POST /api/v1/datasets?name=x.csv HTTP/1.1\nTransfer-Encoding: chunked"
    status, problem = talk(server, token, head, b"nonsense\r\n", hang_up=True)
    assert (status, problem["code"]) == (400, "malformed")
    assert files(parts) == []


def test_a_chunked_upload_above_the_limit(server: tuple[str, int], token: str, parts: Services) -> None:
    head = "POST /api/v1/datasets?name=x.csv HTTP/1.1\nTransfer-Encoding: chunked"
    pieces = [b"100000\r\n" + b"x" * 0x100000 + b"\r\n"] * 5
    status, problem = talk(server, token, head, *pieces, b"0\r\n\r\n")
    assert (status, problem["code"]) == (413, "too_large")
    assert files(parts) == []


def test_no_length_is_told(server: tuple[str, int], token: str) -> None:
    status, problem = talk(server, token, "POST /api/v1/datasets?name=x.csv HTTP/1.1")
    assert (status, problem["code"]) == (400, "malformed")


@pytest.mark.parametrize("authorised", [True, False])
def test_a_refused_body_is_heard_to_its_end(server: tuple[str, int], token: str, authorised: bool) -> None:
    body = b"x" * 5_000_000
    head = f"POST /api/v1/jobs HTTP/1.1\nContent-Type: application/json\nContent-Length: {len(body)}"
    status, problem = talk(server, token if authorised else "none", head, body)
    assert (status, problem["code"]) == ((413, "too_large") if authorised else (401, "unauthorized"))


def test_ranges_without_nginx(server: tuple[str, int], token: str) -> None:
    _, dataset = talk(
        server, token, "POST /api/v1/datasets?name=x.json HTTP/1.1\nContent-Length: 9", b"[1,2,345]"
    )
    head = f"GET /api/v1/datasets/{dataset['id']}/content HTTP/1.1\nRange: bytes=5-7"
    assert talk(server, token, head) == (206, 345)
