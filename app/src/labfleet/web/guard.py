"""What is asked of every request before a view sees it, and of every response before it leaves."""

from __future__ import annotations

import math
from typing import Any

from apiflask import APIFlask
from flask import Response, current_app, request
from gunicorn.http.errors import ParseException

from labfleet.errors import Invalid, LabfleetError, Malformed

MAX_DEPTH = 128
MAX_INTEGER = 2**63 - 1
# A refused body is read up to here, so that the client hears why before its connection ends.
DRAIN_BYTES = 16 * 1024 * 1024
CSP = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)
FILE_CSP = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
HEADERS = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class UnsupportedMediaType(LabfleetError):
    """The body isn't of the type that this call takes."""

    code = "unsupported_media_type"
    status = 415
    title = "Unsupported media type"
    default_hint = "Send JSON with 'Content-Type: application/json'."


def register(app: APIFlask) -> None:
    """Install the checks."""
    app.before_request(refuse_nul)
    app.after_request(harden)
    app.after_request(drain)
    app.json.sort_keys = False  # type: ignore[attr-defined]


def refuse_nul() -> None:
    """PostgreSQL's text can't hold NUL, and no honest address has one."""
    pieces = [request.path, *request.args.keys(), *(value for _, value in request.args.items(multi=True))]
    if any("\x00" in piece for piece in pieces):
        raise Malformed("The address has a NUL character.")


def strict_json() -> None:
    """Read and judge the body of a call that takes JSON (a blueprint's `before_request`, after who asks).

    The type must be JSON, the text valid, its strings without NUL and lone surrogates, its numbers
    finite and within 64 bits, its depth bounded: what passes can be kept as jsonb.
    """
    view = current_app.view_functions.get(request.endpoint or "")
    if getattr(view, "_spec", {}).get("content_type") != "application/json":
        return
    if not request.is_json:
        raise UnsupportedMediaType(f"The body is {request.mimetype or 'of no type'!s}, not application/json.")
    body = request.get_json()
    if body is None:  # the framework would take it for an empty object
        raise Invalid("The body is null.", hint="Send an object; {} is the empty one.")
    check_value(body, MAX_DEPTH)


def check_value(value: Any, depth: int) -> None:
    """Raise `Invalid` for a JSON value that can't be kept."""
    if depth == 0:
        raise Invalid("The document is nested too deeply.", hint=f"At most {MAX_DEPTH} levels are taken.")
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, (int, float)):
        _check_number(value)
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_text(key)
            check_value(item, depth - 1)
    elif isinstance(value, list):
        for item in value:
            check_value(item, depth - 1)


def _check_text(text: str) -> None:
    if "\x00" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise Invalid("A text has a NUL character or half of a surrogate pair.", hint="Remove it.")


def _check_number(number: float) -> None:
    if isinstance(number, float) and not math.isfinite(number):
        raise Invalid("NaN and Infinity are no JSON numbers.", hint="Leave the value out, or send a text.")
    if isinstance(number, int) and not -MAX_INTEGER - 1 <= number <= MAX_INTEGER:
        raise Invalid("An integer lies outside of 64 bits.", hint="Send it as a text.")


def harden(response: Response) -> Response:
    """Add the security headers that a view has not set otherwise."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers.setdefault("Cache-Control", "no-store")
    return response


def drain(response: Response) -> Response:
    """Read what a refused request still sends: a server that hangs up meanwhile is not understood."""
    if response.status_code < 400 or not request.environ.get("wsgi.input_terminated"):
        return response
    stream, left = request.environ["wsgi.input"], DRAIN_BYTES
    try:
        while left > 0 and (piece := stream.read(min(left, 65536))):
            left -= len(piece)
    except (OSError, ParseException):  # it has gone already, or speaks no HTTP
        return response
    return response
