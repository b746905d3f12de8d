"""Protocols by git: `git clone`, `fetch` and `push` over HTTPS, with a user's name and API token.

Refusals are texts that git shows to people. Only so many run at a time and for so long, so that pages and
workers always find a free thread.
"""

from __future__ import annotations

import socket
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import IO, TYPE_CHECKING

from apiflask import APIBlueprint
from flask import Response, request
from gunicorn.http.errors import ParseException
from sqlalchemy import select
from werkzeug.exceptions import ClientDisconnected

from labfleet.config import MIB
from labfleet.datasets.store import CutOff
from labfleet.db.models import Protocol, User
from labfleet.errors import LabfleetError, Malformed, QuotaExceeded, TooLarge, Unauthorized, Unavailable
from labfleet.jobs import quotas
from labfleet.log import get_logger
from labfleet.protocols import access, service, smart
from labfleet.protocols.smart import Bounds
from labfleet.protocols.store import ProtocolStore
from labfleet.users.scopes import Scope
from labfleet.web.auth import admit
from labfleet.web.services import services

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

git = APIBlueprint("git", __name__, url_prefix="/git", enable_openapi=False)
# What a client asks for in a fetch: names of commits.
MAX_FETCH_REQUEST = 4 * 1024 * 1024
DRAIN_SECONDS = 5
_log = get_logger(__name__)


class Busy(Unavailable):
    """As many clones and pushes as may are under way."""

    code = "busy"
    title = "Too many clones and pushes at a time"
    default_hint = "Try again in some seconds."


@git.errorhandler(LabfleetError)
def _refused(error: LabfleetError) -> Response:
    response = Response(
        f"{error.detail}\n{error.hint}\n", error.status, content_type="text/plain; charset=utf-8"
    )
    if isinstance(error, Unauthorized):
        response.headers["WWW-Authenticate"] = 'Basic realm="Labfleet", charset="UTF-8"'
    return response


@git.get("/<name>.git/info/refs")
def advertise(name: str) -> Response:
    """What there is to fetch, or to push onto."""
    wanted = request.args.get("service", "")
    if wanted not in smart.SERVICES:
        raise Malformed("This is spoken by git's smart protocol only.", hint="Use git 1.6.6 or newer.")
    user = _who(Scope.READ if wanted == smart.UPLOAD else Scope.PROTOCOLS)
    bounds, spoken = _bounds(), request.headers.get("Git-Protocol", "")
    with _turn():
        if wanted == smart.UPLOAD or _may_push(user, name):
            repository = _to_read(user, name)
            answer = smart.advertisement(repository.path(name), wanted, spoken, bounds)
        else:
            with services().protocols.beside(name) as empty:
                answer = smart.advertisement(empty.path(name), wanted, spoken, bounds)
    return Response(answer, content_type=f"application/x-{wanted}-advertisement")


@git.post(f"/<name>.git/{smart.UPLOAD}")
def fetch(name: str) -> Response:
    """A clone or fetch."""
    store = _to_read(_who(Scope.READ), name)
    with ExitStack() as stack:
        stack.enter_context(_turn())
        asked = stack.enter_context(tempfile.TemporaryFile())
        read = _body(Allowed(MAX_FETCH_REQUEST, TooLarge("The request is larger than any fetch needs.")))
        while chunk := read(smart.CHUNK):
            asked.write(chunk)
        asked.seek(0)
        answer = smart.fetched(store.path(name), asked, request.headers.get("Git-Protocol", ""), _bounds())
        stack.callback(answer.close)
        end = stack.pop_all()
    response = Response(answer, content_type=f"application/x-{smart.UPLOAD}-result")
    response.call_on_close(end.close)
    return response


@git.post(f"/<name>.git/{smart.RECEIVE}")
def push(name: str) -> Response:
    """A push: judged by the hook, then entered into the catalogue before git is answered."""
    user = _who(Scope.PROTOCOLS)
    kind = f"application/x-{smart.RECEIVE}-result"
    try:
        with _turn():
            return Response(_push(user, name), content_type=kind)
    except LabfleetError as error:
        _log.info("push refused", protocol=name, user=user.name, code=error.code)
        response = Response(smart.refusal(error.detail, error.hint), content_type=kind)
        response.call_on_close(partial(_drain, request.environ))
        return response


def _push(user: User, name: str) -> bytes:
    store, known = services().protocols, _may_push(user, name)
    allowed = _allowed(user, name)
    read, bounds = _body(allowed), _bounds(allowed.bytes)
    if not known:
        with store.beside(name) as pushed:
            return _received(user, name, pushed, read, bounds)
    with store.alone(name):
        before = store.refs(name)
        try:
            return _received(user, name, store, read, bounds)
        except BaseException:
            store.restore(name, before)
            raise


def _received(
    user: User, name: str, store: ProtocolStore, read: Callable[[int], bytes], bounds: Bounds
) -> bytes:
    parts = services()
    hang_up = partial(_hang_up, _connection(request.environ))
    with smart.pushed(store.path(name), name, read, bounds, hang_up) as answer, parts.sessions.begin() as db:
        versions = service.take_in(
            db,
            parts.protocols,
            user,
            name,
            pushed=None if store is parts.protocols else store,
            accept=lambda owner, size: quotas.claim_storage(db, owner, size),
        )
        told = answer.read()
    if versions:
        named = [version.name for version in versions]
        _log.info("protocol pushed", protocol=name, user=user.name, versions=named)
    return told


def _who(scope: Scope) -> User:
    given = request.authorization
    if given is None or given.type != "basic" or not given.password or given.username is None:
        raise Unauthorized(
            "Give your user name, and an API token as the password.",
            hint="'labfleet git-credential' can do it for you.",
        )
    user = admit(given.password, scope)
    if user.name != given.username:
        raise Unauthorized(
            "The token is of another user.", hint="Give the name of the user whose token it is."
        )
    return user


def _to_read(user: User, name: str) -> ProtocolStore:
    with services().sessions() as db:
        access.get_protocol(db, user, name)
    return services().protocols


def _may_push(user: User, name: str) -> bool:
    """Whether there is a protocol of this name, which the user may change; `NameTaken` if somebody else's."""
    with services().sessions() as db:
        return access.may_change_named(db, user, name)


@dataclass(frozen=True)
class Allowed:
    """How large a body may be, and what is said of a larger one."""

    bytes: int
    error: LabfleetError


def _allowed(user: User, name: str) -> Allowed:
    """What a push may measure: as the settings say, and as much as its owner may still store."""
    largest = services().settings.protocols.max_push_bytes
    shown = f"{largest // MIB} MiB" if largest >= MIB else f"{largest} bytes"
    settings = Allowed(
        largest,
        TooLarge(
            f"The push is larger than {shown}, and that is what may be pushed at once.",
            hint="Keep data out of the protocol: upload it as a dataset. Older commits count too.",
        ),
    )
    with services().sessions() as db:
        found = db.scalars(select(Protocol).where(Protocol.name == name)).one_or_none()
        owner = user if found is None else found.owner
        if owner is None:
            return settings
        quotas.check_storage(db, owner, 1)
        room = quotas.room(db, owner)
        if room is None or room >= largest:
            return settings
        error = QuotaExceeded(f"The push is larger than the {room} bytes that your quota leaves.")
        return Allowed(room, error)


def _bounds(input_bytes: int = 0) -> Bounds:
    section = services().settings.protocols
    size = input_bytes or section.max_push_bytes
    return Bounds(section.git_seconds, section.git_memory_bytes, size, section.max_push_objects)


@contextmanager
def _turn() -> Iterator[None]:
    gits = services().gits
    if not gits.acquire(blocking=False):
        raise Busy("As many clones and pushes as may are under way.")
    try:
        yield
    finally:
        gits.release()


def _body(allowed: Allowed) -> Callable[[int], bytes]:
    """Reads the request's body as far as it is allowed, unpacked where git has packed it."""
    if (request.content_length or 0) > allowed.bytes:
        raise allowed.error
    request.max_content_length = sys.maxsize  # counted here
    stream = request.stream
    inflate = zlib.decompressobj(31) if request.headers.get("Content-Encoding") == "gzip" else None
    count = 0

    def read(size: int) -> bytes:
        nonlocal count
        try:
            piece = stream.read(size) if inflate is None else _inflated(inflate, stream, size)
        except (OSError, ClientDisconnected, zlib.error) as error:
            raise CutOff("The body ended before its end was announced, or is damaged.") from error
        count += len(piece)
        if count > allowed.bytes:
            raise allowed.error
        return piece

    return read


def _inflated(inflate: zlib._Decompress, stream: IO[bytes], size: int) -> bytes:
    while True:
        packed = inflate.unconsumed_tail or stream.read(size)
        piece = inflate.decompress(packed, size)
        if piece or not packed:
            return piece


def _connection(environ: WSGIEnvironment) -> socket.socket | None:
    found = environ.get("gunicorn.socket") or environ.get("werkzeug.socket")
    return found if isinstance(found, socket.socket) else None


def _hang_up(connection: socket.socket | None) -> None:
    """End the reading of a body whose time is over; the answer can still be sent."""
    if connection is not None:
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RD)


def _drain(environ: WSGIEnvironment) -> None:
    """Read for a while what a refused client still sends, so that it gets to hear why."""
    connection = _connection(environ)
    if connection is None or not environ.get("wsgi.input_terminated"):
        return
    until = time.monotonic() + DRAIN_SECONDS
    try:
        connection.settimeout(DRAIN_SECONDS)
        while time.monotonic() < until and environ["wsgi.input"].read(smart.CHUNK):
            pass
    except (OSError, ParseException):  # it has gone
        return
    finally:
        _hang_up(connection)
