"""A receiver of webhooks for tests: a real HTTP server that remembers what it got, answers as told."""

from __future__ import annotations

import hashlib
import hmac
import json
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Got:
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def told(self) -> dict[str, Any]:
        """The body's JSON."""
        told: dict[str, Any] = json.loads(self.body)
        return told

    @property
    def delivery(self) -> str:
        """The delivery's id, by the header."""
        return self.headers["X-Labfleet-Delivery"]

    def verified(self, secret: str) -> bool:
        """Whether the signature is good, computed as docs/scientist/webhooks.md says."""
        parts = dict(part.split("=", 1) for part in self.headers["X-Labfleet-Signature"].split(","))
        signed = parts["t"].encode() + b"." + self.body
        return hmac.compare_digest(hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest(), parts["v1"])


class Receiver(ThreadingHTTPServer):
    """Answers with `status`, after `before_answer`; over TLS if it has a file with certificate and key."""

    daemon_threads = True
    block_on_close = False
    # Calls come dozens at a time; more than wait here are turned away by the kernel, and tried again.
    request_queue_size = 128

    def __init__(self, certificate: Path | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status = 204
        self.location = ""
        self.before_answer: Callable[[], object] = lambda: None
        self.got: list[Got] = []
        self.names: list[str | None] = []
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            context.sni_callback = lambda connection, name, _: self.names.append(name)
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,))

    def __enter__(self) -> Receiver:
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that has gone away is what some tests want."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append(Got(self.path, dict(self.headers.items()), body))
        self.server.before_answer()
        self.send_response(self.server.status)
        if self.server.location:
            self.send_header("Location", self.server.location)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the test's output clean."""
