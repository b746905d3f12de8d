"""A small client for the user API: plain JSON in and out, every failure a `LabfleetError`.

Requests that may be repeated without harm are repeated while the server is away for a moment.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import ipaddress
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self
from urllib.parse import quote, urlsplit

import httpx

from labfleet.errors import LabfleetError

CHUNK = 256 * 1024
PAGE = 200
TRIES = 4
FIRST_PAUSE_SECONDS = 0.5
TIMEOUT_SECONDS = 30.0
_PASSING = frozenset({502, 503, 504})

Progress = Callable[[int], None]


class ServerProblem(LabfleetError):
    """The server refused; `code`, `status` and `hint` are the server's own."""

    title = "The server refused"
    default_hint = "Look at the server's answer; ask its admin if it is not clear."

    def __init__(self, response: httpx.Response) -> None:
        problem = _problem(response)
        detail = str(problem.get("detail") or problem.get("title") or response.reason_phrase)
        super().__init__(detail, hint=problem.get("hint"), problem=problem)
        self.code = str(problem.get("code", f"http_{response.status_code}"))  # type: ignore[misc]
        self.status = response.status_code  # type: ignore[misc]


class Unreachable(LabfleetError):
    """The server doesn't answer."""

    code = "unreachable"
    title = "The server can't be reached"
    default_hint = "Check the URL, the network, and that the server runs; then try again."


class Client:
    """One server, one token. `Client(url).login(…)` needs none."""

    def __init__(
        self, url: str, token: str | None = None, ca_file: str | None = None, tries: int = TRIES
    ) -> None:
        self.url = checked_url(url)
        self.tries = tries
        headers = {"User-Agent": f"labfleet/{importlib.metadata.version('labfleet')}"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        self._http = httpx.Client(
            base_url=f"{self.url}/api/v1/",
            headers=headers,
            verify=_trust(ca_file),
            timeout=TIMEOUT_SECONDS,
            follow_redirects=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def get(self, path: str, **query: Any) -> Any:
        """GET JSON; query values that are None are left out."""
        params = {key: value for key, value in query.items() if value is not None}
        return self._json(self.request("GET", path, params=params))

    def post(self, path: str, body: Any = None, *, key: str | None = None, **query: Any) -> Any:
        """POST JSON. With an idempotency `key` it may be repeated."""
        headers = {"Idempotency-Key": key} if key else {}
        return self._json(
            self.request("POST", path, json=body, headers=headers, params=query, repeat=key is not None)
        )

    def patch(self, path: str, body: Any) -> Any:
        """PATCH with JSON."""
        return self._json(self.request("PATCH", path, json=body))

    def put(self, path: str, body: Any) -> Any:
        """PUT JSON; it may be repeated."""
        return self._json(self.request("PUT", path, json=body, repeat=True))

    def delete(self, path: str) -> None:
        """DELETE; there is no answer but that it is done."""
        self.request("DELETE", path)

    def items(self, path: str, **query: Any) -> list[dict[str, Any]]:
        """The items of one page (or of a plain list)."""
        answer = self.get(path, **query)
        return list(answer["items"] if isinstance(answer, dict) else answer)

    def every(self, path: str, **query: Any) -> Iterator[dict[str, Any]]:
        """The items of all pages, asked for one by one as they are used."""
        after = None
        while True:
            page = self.get(path, limit=PAGE, after=after, **query)
            yield from page["items"]
            after = page["next"]
            if after is None:
                return

    def login(
        self, user: str, password: str, name: str, scopes: Sequence[str] = (), code: str | None = None
    ) -> str:
        """A new token for `user`, which may do all that he may, or what `scopes` name.

        `code` is of the second factor, where there is one.
        """
        body: dict[str, Any] = {"user": user, "password": password, "name": name, "code": code}
        if scopes:
            body |= {"scopes": list(scopes)}
        return str(self.post("login", body)["token"])

    def log(self, task: str, offset: int = 0, attempt: int | None = None) -> bytes:
        """Bytes of a task's log from `offset`; of its last attempt, unless another is named."""
        query = {"offset": offset} | ({"attempt": attempt} if attempt else {})
        return self.request("GET", at("tasks", task, "log"), params=query).content

    def upload(
        self, path: Path, name: str | None = None, tell: Progress = lambda _: None, **about: Any
    ) -> dict[str, Any]:
        """Stream a file into a new dataset and compare SHA-256. `tell` gets bytes as they are sent.

        `about` is what is told about the dataset; lists go with commas between their words.
        """
        digest = hashlib.sha256()
        with path.open("rb") as file:
            response = self.request(
                "POST",
                "datasets",
                params={"name": name or path.name, **_joined(about)},
                headers={
                    "Content-Length": str(path.stat().st_size),
                    "Content-Type": "application/octet-stream",
                },
                content=_read(file, digest.update, tell),
                repeat=False,
            )
        dataset: dict[str, Any] = self._json(response)
        if dataset["sha256"] != digest.hexdigest():
            raise Unreachable(f"{path} arrived damaged.", hint="Upload it again.")
        return dataset

    def check(self, archive: bytes) -> dict[str, Any]:
        """Have the server check a protocol given as a tar."""
        headers = {"Content-Type": "application/x-tar"}
        answer: dict[str, Any] = self._json(
            self.request("POST", "protocols/check", content=archive, headers=headers, repeat=True)
        )
        return answer

    def send_protocol(self, archive: bytes, tell: Progress = lambda _: None) -> dict[str, Any]:
        """Have the server keep a protocol given as a tar; `tell` gets bytes as they are sent."""
        headers = {"Content-Type": "application/x-tar", "Content-Length": str(len(archive))}
        content = _read(io.BytesIO(archive), lambda _: None, tell)
        response = self.request("POST", "protocols", content=content, headers=headers, repeat=False)
        answer: dict[str, Any] = self._json(response)
        return answer

    def stream(self, path: str, start: int = 0) -> _Stream:
        """A body as it comes, from byte `start` where the server can; use as a context manager."""
        headers = {"Range": f"bytes={start}-"} if start else {}
        return _Stream(self._http.stream("GET", path, headers=headers), self.url)

    def request(
        self, method: str, path: str, *, repeat: bool | None = None, **arguments: Any
    ) -> httpx.Response:
        """One request; `ServerProblem` or `Unreachable`. GET is repeated while the server is away."""
        tries = self.tries if (repeat if repeat is not None else method == "GET") else 1
        for attempt in range(1, tries + 1):
            try:
                response = self._http.request(method, path, **arguments)
            except httpx.HTTPError as error:
                if attempt == tries or not isinstance(error, httpx.TransportError):
                    raise unreachable(self.url, error) from None
            else:
                if response.is_success:
                    return response
                if response.status_code not in _PASSING or attempt == tries:
                    raise ServerProblem(response)
            time.sleep(FIRST_PAUSE_SECONDS * 2 ** (attempt - 1))
        raise AssertionError("tries is at least 1")

    def _json(self, response: httpx.Response) -> Any:
        try:
            return response.json()
        except ValueError:
            raise Unreachable(f"{self.url} answers, but not as a Labfleet.", hint="Check the URL.") from None


class _Stream:
    """The body of one answer; errors as those of `Client.request`."""

    def __init__(self, manager: Any, url: str) -> None:
        self._manager = manager
        self._url = url

    def __enter__(self) -> httpx.Response:
        try:
            response: httpx.Response = self._manager.__enter__()
        except httpx.HTTPError as error:
            raise unreachable(self._url, error) from None
        if response.is_error and response.status_code != 416:
            response.read()
            raise ServerProblem(response)
        return response

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._manager.__exit__(kind, error, trace)
        if isinstance(error, httpx.HTTPError):
            raise unreachable(self._url, error) from None


def at(*parts: str) -> str:
    """A path of the API; a part with slashes or dots in it can't lead elsewhere."""
    return "/".join("%2E" * len(part) if part in {".", ".."} else quote(part, safe="") for part in parts)


def checked_url(url: str) -> str:
    """`url` without a slash at its end; plain http only to this machine, for a token is in every request."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise Unreachable(
            f"'{url}' is no URL of a server.", hint="Write it like https://labfleet.example.org."
        )
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise Unreachable(f"'{url}' is not encrypted.", hint="Use https://.")
    return url.rstrip("/")


def unreachable(url: str, error: Exception) -> Unreachable:
    """What a transport error means to a person."""
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return Unreachable(
            f"The certificate of {url} is not trusted: {error}.",
            hint="Name the file of the CA that signed it: --ca-file, or LABFLEET_CA_FILE.",
        )
    reason = str(error) or type(error).__name__
    return Unreachable(f"{url} can't be reached: {reason}.")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _trust(ca_file: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise Unreachable(
            f"The CA file {ca_file} can't be used: {error}.", hint="Name a readable PEM file."
        ) from None


def _joined(query: dict[str, Any]) -> dict[str, Any]:
    """A query: what is None is left out, words of a list stand with commas between them."""
    given = {key: value for key, value in query.items() if value is not None}
    return {key: ",".join(value) if isinstance(value, list) else value for key, value in given.items()}


def _read(file: BinaryIO, *watchers: Callable[[Any], Any]) -> Iterator[bytes]:
    digest, tell = watchers
    while chunk := file.read(CHUNK):
        digest(chunk)
        yield chunk
        tell(len(chunk))


def _problem(response: httpx.Response) -> dict[str, Any]:
    try:
        value = response.json()
    except (ValueError, httpx.ResponseNotRead):
        value = None
    if isinstance(value, dict):
        return value
    return {"detail": f"The server answered {response.status_code} {response.reason_phrase}."}
