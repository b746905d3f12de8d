"""Bytes in and out. Bodies are streamed to the store; blobs are sent by nginx, not by Python."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import quote

from flask import Response, request, send_file
from werkzeug.exceptions import ClientDisconnected

from labfleet.datasets.store import Blob, CutOff, too_large
from labfleet.errors import Malformed
from labfleet.web.guard import FILE_CSP
from labfleet.web.services import services

# The internal location of nginx that is an alias of the store's directory.
ACCEL_PREFIX = "/_store/"
IMMUTABLE = "private, max-age=31536000, immutable"


def receive(
    limit: int, sha256: str | None = None, accept: Callable[[Blob], object] = lambda blob: None
) -> Blob:
    """Stream the request's body into the store (`TooLarge`, `CutOff`, `ChecksumMismatch`; see `put`)."""
    with _body(limit):
        return services().store.put(
            request.stream, limit=limit, length=request.content_length, sha256=sha256, accept=accept
        )


def read_body(limit: int) -> bytes:
    """The whole body in memory, at most `limit` bytes."""
    with _body(limit):
        data = request.stream.read(limit + 1)
    if len(data) > limit:
        raise too_large(limit)
    if request.content_length is not None and len(data) != request.content_length:
        raise CutOff(f"{len(data)} of {request.content_length} bytes arrived.")
    return data


@contextmanager
def _body(limit: int) -> Iterator[None]:
    chunked = "chunked" in request.headers.get("Transfer-Encoding", "")
    if request.content_length is None and not chunked:
        raise Malformed(
            "The request has no body.", hint="Send the file as the body, with its Content-Length."
        )
    if request.content_length is not None and request.content_length > limit:
        raise too_large(limit)
    # One byte more, so that our own check speaks and not the framework's.
    request.max_content_length = limit + 1
    try:
        yield
    except (OSError, ClientDisconnected) as error:
        raise CutOff("The body ended before its end was announced.") from error


def send_blob(sha256: str, name: str, media_type: str) -> Response:
    """The blob as a download with ranges. Always an attachment: nothing that users made runs as a page."""
    store = services().store
    if services().settings.web.behind_nginx:
        response = Response(content_type=media_type)
        response.headers["X-Accel-Redirect"] = ACCEL_PREFIX + quote(store.relative(sha256))
        del response.headers["Content-Length"]
    else:
        response = send_file(store.existing(sha256), mimetype=media_type, etag=sha256, conditional=True)
    response.headers["Cache-Control"] = IMMUTABLE
    return attachment(response, name)


def attachment(response: Response, name: str) -> Response:
    """Let the browser save the response under this name, and run nothing of it."""
    ascii_name = name.encode("ascii", "replace").decode().replace('"', "_").replace("?", "_")
    response.headers["Content-Disposition"] = (
        f"attachment; filename=\"{ascii_name}\"; filename*=UTF-8''{quote(name, safe='')}"
    )
    response.headers["Content-Security-Policy"] = FILE_CSP
    return response
