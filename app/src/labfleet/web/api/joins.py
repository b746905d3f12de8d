"""Machines that join the fleet by themselves fetch what they need."""

from __future__ import annotations

from flask import Response, request

from labfleet.errors import JoinOver, Unauthorized
from labfleet.jobs import joining
from labfleet.web.api.blueprints import joins
from labfleet.web.api.jobs import BINARY, Responses
from labfleet.web.auth import join_auth
from labfleet.web.services import services

ARCHIVE: Responses = {
    200: {"description": "The archive", "content": {"application/octet-stream": BINARY}},
}


@joins.post("/workers/<name>/join")
@joins.doc(tags=["workers"], operation_id="join_worker", responses=ARCHIVE)
def join(name: str) -> Response:
    """Join as a worker

    Gives what the machine needs, encrypted, once: `playbooks/invite.yml` writes the program that asks for it.
    410 when the token was used before, or its time is over.
    """
    limit, key = services().logins, f"join from {request.remote_addr}"
    limit.check(key)
    try:
        with services().sessions.begin() as db:
            row = joining.use(db, name, str(join_auth.current_user))
    except Unauthorized:
        limit.failed(key)
        raise
    except JoinOver as error:
        limit.failed(key)
        with services().sessions.begin() as db:
            joining.refused(db, name, error.detail)
        raise
    archive = services().archives.take(row)
    response = Response(archive, content_type="application/octet-stream", direct_passthrough=True)
    response.call_on_close(archive.close)
    response.headers["Cache-Control"] = "no-store"
    return response
