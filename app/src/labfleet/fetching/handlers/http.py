"""Files from web servers, by HTTP and HTTPS."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from email.message import Message
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar
from urllib.parse import unquote

import httpx

from labfleet.fetching.handlers.base import (
    Fetched,
    FetchFailed,
    Handler,
    Receiver,
    Refused,
    Schema,
    Task,
    in_clear,
)

REDIRECTS = 5
END = r"$(?![\s\S])"
"""The end of a text; a newline may follow what Python's `$` matches."""
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Answers after which the same request may do a little later."""


class Http(Handler):
    """A file that a web server gives for a GET."""

    title = "Web address (HTTP, HTTPS)"
    description = "A file that a web server offers, such as a public table or your institute's export."
    parameters: ClassVar[Schema] = {
        "type": "object",
        "properties": {
            "url": {
                "type": "string",
                "title": "Address",
                "description": "As a browser has it, such as https://example.org/cells.csv. "
                "Without a name and a password in it.",
                "minLength": 8,
                "maxLength": 2000,
                "pattern": "^https?://[^/@?#]+([/?#]|$)",
            },
            "header": {
                "type": "string",
                "title": "Header of the token",
                "description": "Where the server wants its token, such as X-API-Key; "
                "'Authorization: Bearer' without it.",
                "minLength": 1,
                "maxLength": 100,
                "pattern": f"^[A-Za-z0-9-]+{END}",
            },
        },
        "required": ["url"],
        "additionalProperties": False,
    }
    credentials: ClassVar[Schema] = {
        "type": "object",
        "properties": {
            "user": {
                "type": "string",
                "title": "User",
                "minLength": 1,
                "maxLength": 500,
                "pattern": "^[^:]+$",
            },
            "password": {
                "type": "string",
                "title": "Password",
                "format": "password",
                "minLength": 1,
                "maxLength": 4000,
            },
            "token": {
                "type": "string",
                "title": "Token",
                "description": "Instead of user and password, where the server gives tokens or API keys.",
                "format": "password",
                "minLength": 1,
                "maxLength": 8000,
                "pattern": f"^[!-~]([ -~]*[!-~])?{END}",
            },
        },
        "dependentRequired": {"user": ["password"], "password": ["user"]},
        "additionalProperties": False,
    }
    place: ClassVar[Sequence[str]] = ("url", "header")

    def fetch(self, task: Task) -> Fetched:
        """Fetch the file; redirects are followed, and what they lead to is held to the same rules."""
        url = task.parameters["url"]
        shown = Shown(task)
        with (
            failures(task),
            client_of(task, follow_redirects=True, event_hooks={"request": [shown]}) as client,
            client.stream("GET", url) as response,
        ):
            return received(task, response, known=bool(task.credentials))


def client_of(task: Task, **options: Any) -> httpx.Client:
    """Who asks web servers: within the bounds of the task, with no setting of the environment."""
    headers = {"User-Agent": "labfleet", "Accept-Encoding": "identity"} | options.pop("headers", {})
    return httpx.Client(
        verify=trust(task.ca_file),
        trust_env=False,
        timeout=task.silent_seconds,
        max_redirects=REDIRECTS,
        headers=headers,
        **options,
    )


@contextmanager
def failures(task: Task) -> Iterator[None]:
    """What goes wrong on the way is `FetchFailed`."""
    try:
        yield
    except httpx.TimeoutException:
        raise FetchFailed(f"Nothing came for {task.silent_seconds:g} seconds.", passing=True) from None
    except httpx.TransportError as error:
        raise unreachable(error) from None
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
        raise FetchFailed(sentence(error)) from None


class Shown:
    """Shows credentials to the server that they are for, and to none that it leads to."""

    def __init__(self, task: Task) -> None:
        self._origin = origin(httpx.URL(task.parameters["url"]))
        self._headers = headers_of(task)
        if self._headers and self._origin[0] != "https" and not task.clear_credentials:
            raise in_clear()

    def __call__(self, request: httpx.Request) -> None:
        """Before each request, also of a redirect."""
        for name, value in self._headers.items():
            if origin(request.url) == self._origin:
                request.headers[name] = value
            else:
                request.headers.pop(name, None)


def origin(url: httpx.URL) -> tuple[str, str, int | None]:
    """Whose address it is."""
    return url.scheme, url.host, url.port


def headers_of(task: Task) -> dict[str, str]:
    """The credentials as headers."""
    given, headers = task.credentials, {}
    if "user" in given:
        pair = base64.b64encode(f"{given['user']}:{given['password']}".encode()).decode()
        headers["Authorization"] = f"Basic {pair}"
    if "token" in given:
        header = task.parameters.get("header")
        name, value = (header, given["token"]) if header else ("Authorization", f"Bearer {given['token']}")
        if name.lower() in {each.lower() for each in headers}:
            raise FetchFailed("It has a password and a token: give one of them, or name the token's header.")
        headers[name] = value
    return headers


def received(
    task: Task, response: httpx.Response, *, known: bool = False, path: Path | None = None
) -> Fetched:
    """The body of an answer, which is a good one; `FetchFailed` otherwise."""
    if response.status_code != httpx.codes.OK:
        raise refusal(response, known=known)
    length = response.headers.get("content-length", "")
    plain = response.headers.get("content-encoding", "identity") == "identity"
    total = int(length) if plain and length.isdecimal() else None
    with Receiver(task, total, path=path) as receiver:
        for piece in response.iter_bytes():
            receiver.take(piece)
    media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    return Fetched(receiver.path, _name(response), media_type)


def refusal(response: httpx.Response, *, known: bool) -> FetchFailed:
    """The failure of an answer that is no good one; `known`: to a request with credentials."""
    answer = f"{response.status_code} {response.reason_phrase}".strip()
    return FetchFailed(
        f"The server answered {answer}.{_hint(response.status_code, known)}",
        passing=response.status_code in PASSING,
    )


def unreachable(error: httpx.TransportError) -> FetchFailed:
    """The failure of a connection that was not made, or broke."""
    return FetchFailed(sentence(error), passing=_passing(error))


def _hint(status: int, known: bool) -> str:
    if status in {401, 403}:
        told = " Are the credentials right, and good for this?" if known else ""
        return told or " It wants to know who asks: give the source credentials."
    return " Is the address right?" if status == 404 else ""


def _name(response: httpx.Response) -> str:
    """What the server calls the file, or the end of its address."""
    said = Message()
    said["content-disposition"] = response.headers.get("content-disposition", "")
    return said.get_filename() or PurePosixPath(unquote(response.url.path)).name


def _passing(error: httpx.TransportError) -> bool:
    """Whether it may go better later: not where it was refused, or is no web server that we trust."""
    if isinstance(error, httpx.UnsupportedProtocol) or "CERTIFICATE" in str(error):
        return False
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, Refused):
            return False
        cause = cause.__cause__ or cause.__context__
    return True


def sentence(error: Exception) -> str:
    """What went wrong, as one sentence."""
    text = str(error) or type(error).__name__
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return f"The server's certificate is not trusted: {text.rsplit('] ', 1)[-1]}."
    return f"It can't be fetched: {text.rstrip('.')}."


def trust(ca_file: Path | None) -> ssl.SSLContext:
    """The authorities that are trusted: the system's, and that of the lab's setting."""
    context = ssl.create_default_context()
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    return context
