from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from labfleet.worker import client as module
from labfleet.worker.client import Away, Client


class Server(ThreadingHTTPServer):
    """Remembers which token came over which connection; hangs up after an answer when it is told to."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.got: list[tuple[int, str | None]] = []
        self.connections = 0
        self.hang_up = False
        self.hung_up = threading.Event()

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections += 1
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        self.hung_up.set()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        self.server.got.append((self.client_address[1], self.headers["Authorization"]))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")
        self.close_connection = self.server.hang_up

    def log_message(self, format: str, *args: Any) -> None:
        del format, args


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield made
        made.shutdown()


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    made = Client(f"http://127.0.0.1:{server.server_port}", "first")
    yield made
    made.close()


def test_one_connection_bears_one_token_after_the_other(server: Server, client: Client) -> None:
    client.call("GET", "/")
    client.bear("second")
    client.call("GET", "/")
    (one, first), (other, second) = server.got
    assert (first, second) == ("Bearer first", "Bearer second")
    assert one == other


def test_one_that_the_server_has_closed_is_opened_anew(server: Server, client: Client) -> None:
    server.hang_up = True
    for _ in range(3):
        client.call("GET", "/")
        assert server.hung_up.wait(5)
        server.hung_up.clear()
    assert len({port for port, _ in server.got}) == 3


def test_one_that_was_idle_for_long_is_not_trusted(
    server: Server, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.call("GET", "/")
    monkeypatch.setattr(module, "KEEP_SECONDS", -1)
    client.call("GET", "/")
    assert server.connections == 2


def test_one_may_be_opened_before_it_is_needed(server: Server, client: Client) -> None:
    client.open()
    client.open()
    client.call("GET", "/")
    assert server.connections == 1


def test_opening_fails_in_silence_and_the_call_says_so() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        client = Client(f"http://127.0.0.1:{free.getsockname()[1]}", "token")
        client.open()
        with pytest.raises(Away):
            client.call("GET", "/")
