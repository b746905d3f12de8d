"""Every record of a request bears its id, and the ids of what it is about."""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence

from apiflask import APIFlask
from flask import Response, g, request

from labfleet import log
from labfleet.db.models import User
from labfleet.users import audit
from labfleet.users.audit import Actor

_log = log.get_logger(__name__)
TASKS_NAMED = 20
HEADER = "X-Request-ID"
_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")
# Parts of an address that say what a request is about, by the name that records give them.
_ABOUT = {"task": "task", "number": "attempt", "job": "job"}


def register(app: APIFlask) -> None:
    """Bind the id that nginx gives (or the client gave it) before anything else; answer with it."""
    app.before_request(_begin)
    app.after_request(_end)


def submitted(job: uuid.UUID, first: Sequence[uuid.UUID], tasks: int) -> None:
    """Say which job a request has made, and its first tasks: these are what the other tiers' records name."""
    named = [str(task) for task in first[:TASKS_NAMED]]
    _log.info("job submitted", job=str(job), number_of_tasks=tasks, tasks=named)


def _begin() -> None:
    given = request.headers.get(HEADER, "")
    g.request_id = given if _ID.fullmatch(given) else uuid.uuid4().hex
    log.unbind_all()
    audit.acting(Actor(_way_in(), address=request.remote_addr or ""))
    about = {_ABOUT[name]: str(value) for name, value in (request.view_args or {}).items() if name in _ABOUT}
    log.bind(request=g.request_id, **about)


def known(user: User) -> None:
    """Say who has proved to be asking: the audit log tells of this user what the request does from now on."""
    g.user = user
    audit.acting(Actor(_way_in(), user, address=request.remote_addr or ""))


def _way_in() -> str:
    first = request.path.strip("/").partition("/")[0]
    return first if first in {"api", "git"} else "page"


def _end(response: Response) -> Response:
    response.headers[HEADER] = g.request_id
    return response
