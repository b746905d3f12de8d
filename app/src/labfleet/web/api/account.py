"""One's own account: the browsers in which one is signed in."""

from __future__ import annotations

import uuid

from labfleet.users import sessions
from labfleet.users.devices import device
from labfleet.web.api import schemas
from labfleet.web.api.blueprints import user
from labfleet.web.auth import current_user
from labfleet.web.services import services


@user.get("/me/sessions")
@user.doc(tags=["users"], operation_id="list_sessions")
@user.output(schemas.BrowserSessions)
def list_sessions() -> schemas.BrowserSessions:
    """List the browsers in which you are signed in"""
    with services().sessions() as db:
        rows = sessions.live(db, current_user(), services().settings.web.session_hours)
    return schemas.BrowserSessions(
        items=[
            schemas.BrowserSession(
                id=row.id,
                device=device(row.agent),
                agent=row.agent,
                address=row.address,
                created_at=row.created_at,
                last_seen_at=row.last_seen_at,
            )
            for row in rows
        ]
    )


@user.delete("/me/sessions/<uuid:session>")
@user.doc(tags=["users"], operation_id="end_session")
@user.output({}, status_code=204)
def end_session(session: uuid.UUID) -> tuple[str, int]:
    """Sign one browser out"""
    with services().sessions.begin() as db:
        sessions.end_one(db, current_user(), session)
    return "", 204


@user.delete("/me/sessions")
@user.doc(tags=["users"], operation_id="end_sessions")
@user.output({}, status_code=204)
def end_sessions() -> tuple[str, int]:
    """Sign all your browsers out

    API tokens stay as good as before.
    """
    with services().sessions.begin() as db:
        sessions.end_all(db, current_user())
    return "", 204
