"""HTTP to a front end, by the standard library: for the shepherd of each attempt an import of httpx
would cost more time (150 ms) than all that it fetches.

A `Client` belongs to one thread. Answers that refuse are `Refused`; everything that may be better a
little later is `Away`.
"""

from __future__ import annotations

import http.client
import json
import select
import ssl
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

TIMEOUT_SECONDS = 30
KEEP_SECONDS = 10.0
"""A connection that nobody has used for so long is not trusted: its other end may have gone in silence."""
CHUNK = 256 * 1024
_LATER = frozenset({408, 425, 429, 500, 502, 503, 504})
Body = bytes | Iterable[bytes] | None


class Away(Exception):
    """The front end didn't answer, or said that it can't now. Try again a little later."""


class Refused(Exception):
    """The front end said no; `code` is the problem document's (for example `attempt_superseded`)."""

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        super().__init__(f"{status} {problem.get('code', '')}: {problem.get('detail', '')}")
        self.status = status
        self.code = str(problem.get("code", ""))
        self.problem = problem


class Client:
    """Calls below `url` with a bearer token over one connection that is kept open."""

    def __init__(
        self, url: str, token: str, ca_file: str | None = None, timeout: float = TIMEOUT_SECONDS
    ) -> None:
        parts = urlsplit(url)
        self._prefix = parts.path.rstrip("/")
        self._headers = {"User-Agent": "labfleet-worker"}
        self._connection = _connection(parts.scheme, parts.hostname or "", parts.port, ca_file, timeout)
        self._used = time.monotonic()
        self._answered = False
        self.bear(token)

    def bear(self, token: str) -> None:
        """Show this token from now on, over the connection that is there."""
        self._headers["Authorization"] = f"Bearer {token}"

    def open(self) -> None:
        """Connect already, if that can be done now; a call does so in any case."""
        try:
            if self._connection.sock is None:
                self._connection.connect()
                self._used = time.monotonic()
        except (OSError, http.client.HTTPException):
            self.close()

    def call(self, method: str, path: str, content: dict[str, Any] | None = None) -> dict[str, Any]:
        """Send JSON, receive JSON."""
        body = None if content is None else json.dumps(content).encode()
        headers = {"Content-Type": "application/json"} if body else {}
        with self._answer(method, path, body, headers) as answer:
            value: dict[str, Any] = json.loads(answer.read() or b"{}")
            return value

    def send(
        self, path: str, body: Body, length: int, headers: dict[str, str] | None = None
    ) -> dict[str, Any]:
        """PUT raw bytes of a known length, receive JSON."""
        more = {"Content-Length": str(length), "Content-Type": "application/octet-stream"}
        with self._answer("PUT", path, body, more | (headers or {})) as answer:
            value: dict[str, Any] = json.loads(answer.read() or b"{}")
            return value

    def fetch(self, path: str) -> Iterator[bytes]:
        """GET a body in chunks; `Away` when it breaks off."""
        with self._answer("GET", path, None, {}) as answer:
            while chunk := answer.read(CHUNK):
                yield chunk

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        self._connection.close()
        self._answered = False

    @contextmanager
    def _answer(
        self, method: str, path: str, body: Body, headers: dict[str, str]
    ) -> Iterator[http.client.HTTPResponse]:
        try:
            self._close_if_stale()
            self._connection.request(method, self._prefix + path, body, self._headers | headers)
            answer = self._connection.getresponse()
            _judge(answer)
            yield answer
            self._used, self._answered = time.monotonic(), True
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise Away(f"{type(error).__name__}: {error}") from error
        except BaseException:
            # Whatever is left of this answer must not be taken for the next one's.
            self.close()
            raise

    def _close_if_stale(self) -> None:
        socket = self._connection.sock
        if socket is None:
            return
        # Nothing is asked, so whatever can be read means that the server has closed it. (Before the first
        # answer there may be the tickets of TLS.)
        closed = self._answered and select.select([socket], [], [], 0)[0]
        if closed or time.monotonic() - self._used > KEEP_SECONDS:
            self.close()


def _connection(
    scheme: str, host: str, port: int | None, ca_file: str | None, timeout: float
) -> http.client.HTTPConnection:
    if scheme == "http":
        return http.client.HTTPConnection(host, port, timeout=timeout)
    return http.client.HTTPSConnection(host, port, timeout=timeout, context=tls_context(ca_file))


def tls_context(ca_file: str | None) -> ssl.SSLContext:
    """What is trusted: the authority in the file, or the system's. Made once for each state of the file, as
    it takes milliseconds."""
    return _tls_context(ca_file, Path(ca_file).stat().st_mtime_ns if ca_file else 0)


@lru_cache(maxsize=16)
def _tls_context(ca_file: str | None, changed: int) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=ca_file)


def _judge(answer: http.client.HTTPResponse) -> None:
    if answer.status < 300:
        return
    body = answer.read(CHUNK)
    if answer.status in _LATER:
        raise Away(f"{answer.status} {_problem(body).get('detail', '')}".rstrip())
    raise Refused(answer.status, _problem(body))


def _problem(body: bytes) -> dict[str, Any]:
    try:
        problem = json.loads(body)
    except ValueError:
        return {}
    return problem if isinstance(problem, dict) else {}
