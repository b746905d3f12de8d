"""One request: method, path, password, size and shape are checked before anybody else hears of it."""

from labfleet.runner.frontends import authenticate
from labfleet.runner.handover import ask, read_body
from labfleet.runner.lean import environ
from labfleet.runner.limits import Limits
from labfleet.runner.problem import Problem, malformed, too_large
from labfleet.runner.shape import FIELDS, messages_of

PREFIX = "/runner/v1/"
REQUEST_ID_LENGTH = 64
METHODS = {"schedule": "POST", "cancel": "POST", "interface": "POST", "check": "POST", "health": "GET"}


def answer(limits: Limits) -> tuple[int, object]:
    """Status and body for the request in the environment and on standard input.

    `health` is the one verb without a password: it tells only whether the broker is reached.
    """
    verb = _verb()
    if verb == "health":
        return ask(limits.socket, {"verb": verb})
    front_end = authenticate(environ.get(b"HTTP_AUTHORIZATION", b""))
    length = _length(limits.max_body_bytes)
    asked: dict[str, object] = {"verb": verb, "front_end": front_end, "request": _request_id()}
    if verb not in FIELDS:
        return ask(limits.socket, asked | {"size": length}, length)
    messages = messages_of(verb, read_body(length), limits.max_batch)
    return ask(limits.socket, asked | {"messages": messages})


def _request_id() -> str:
    """What nginx calls this request; for the publisher's records."""
    return environ.get(b"HTTP_X_REQUEST_ID", b"").decode(errors="replace")[:REQUEST_ID_LENGTH]


def _verb() -> str:
    path = environ.get(b"DOCUMENT_URI") or environ.get(b"REQUEST_URI", b"").partition(b"?")[0]
    verb = path.decode(errors="replace").removeprefix(PREFIX)
    if verb not in METHODS:
        hint = f"The runner knows {PREFIX}{{{','.join(METHODS)}}}."
        raise Problem(404, "not_found", "Not found", "There is no such call.", hint)
    method = environ.get(b"REQUEST_METHOD", b"").decode(errors="replace")
    if method != METHODS[verb]:
        hint = f"Use {METHODS[verb]}."
        raise Problem(405, "method_not_allowed", "Method not allowed", f"'{verb}' has no {method}.", hint)
    return verb


def _length(limit: int) -> int:
    text = environ.get(b"CONTENT_LENGTH", b"").decode(errors="replace")
    if not text:
        hint = "Send a Content-Length."
        raise Problem(411, "length_required", "Length required", "The request has no length.", hint)
    if not (text.isascii() and text.isdecimal()):
        raise malformed("Content-Length is no number.")
    if int(text) > limit:
        detail = f"The body has {text} bytes; at most {limit} are taken."
        raise too_large(detail, "Send less, or raise [runner] max_body_bytes on the queue machine.")
    return int(text)
