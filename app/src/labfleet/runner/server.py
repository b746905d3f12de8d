"""The publisher's unix socket: one JSON line in, one JSON line out, a thread for each connection."""

from __future__ import annotations

import json
import os
import socket
import socketserver
import threading
from pathlib import Path
from typing import Any, cast

from labfleet.errors import LabfleetError
from labfleet.log import bind, get_logger
from labfleet.runner.service import Answer, Service

SOCKET_MODE = 0o660
LINE_BYTES = 64 * 1024**2
"""Above any batch that [runner] max_body_bytes lets through (a bound, should the CGI be wrong)."""
CONNECTIONS = 64
"""Served at once; more wait (fcgiwrap has fewer processes)."""
READ_TIMEOUT_SECONDS = 10

log = get_logger(__name__)


class Handler(socketserver.StreamRequestHandler):
    """One connection, one question."""

    timeout = READ_TIMEOUT_SECONDS

    def handle(self) -> None:
        """Read, answer, close. A client that has gone away is no error of ours."""
        server = cast(Server, self.server)
        with server.places:
            try:
                status, body = self._answer(server.service)
                self.wfile.write(json.dumps({"status": status, "body": body}).encode() + b"\n")
            except OSError as error:
                log.info("the asking program has gone", error=str(error))

    def _answer(self, service: Service) -> Answer:
        try:
            question: dict[str, Any] = json.loads(self.rfile.readline(LINE_BYTES))
            bind(request=str(question.get("request", "")))
            return service.answer(question, cast(Any, self.rfile))
        except LabfleetError as error:
            return int(error.status), error.problem()
        except (ValueError, KeyError, TypeError):
            log.exception("a question that the CGI program should not have let through")
            return 500, LabfleetError("The publisher did not understand the CGI program.").problem()


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Listens at `path` (mode 0660; the group is the process's)."""

    daemon_threads = False
    block_on_close = True
    request_queue_size = 128

    def __init__(self, path: Path, service: Service) -> None:
        self.service = service
        self.places = threading.BoundedSemaphore(CONNECTIONS)
        self.path = path
        path.unlink(missing_ok=True)
        super().__init__(str(path), Handler)

    def server_bind(self) -> None:
        """Bind so that the socket never has another mode, not even for an instant."""
        usual = os.umask(0o777 & ~SOCKET_MODE)
        try:
            self.socket.bind(str(self.path))
        finally:
            os.umask(usual)

    def close(self) -> None:
        """Remove the socket, so that the CGI program sees at once that nobody is there; then wait
        until those who have asked have their answers."""
        self.path.unlink(missing_ok=True)
        self.server_close()

    def get_request(self) -> tuple[socket.socket, Any]:
        """As inherited, with the type spelled out."""
        return self.socket.accept()
