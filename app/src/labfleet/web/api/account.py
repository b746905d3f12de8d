"""One's own account: mails about one's jobs, API tokens, the browsers in which one is signed in."""

from __future__ import annotations

import uuid

from labfleet.db import models
from labfleet.mail import notices
from labfleet.mail.notices import Wish
from labfleet.users import service as users
from labfleet.users import sessions
from labfleet.users.devices import device
from labfleet.users.scopes import Scope
from labfleet.web.api import mail_schemas, schemas
from labfleet.web.api.blueprints import user
from labfleet.web.auth import current_token, current_user, needs
from labfleet.web.services import services


@user.get("/me/mail")
@needs(Scope.READ)
@user.doc(tags=["users"], operation_id="show_job_mails")
@user.output(mail_schemas.JobMails)
def show_job_mails() -> mail_schemas.JobMails:
    """Show on which ends of jobs you get mails"""
    return _job_mails(current_user())


@user.put("/me/mail")
@needs(Scope.ACCOUNT)
@user.doc(tags=["users"], operation_id="choose_job_mails")
@user.input(mail_schemas.JobMailsIn)
@user.output(mail_schemas.JobMails)
def choose_job_mails(json_data: mail_schemas.JobMailsIn) -> mail_schemas.JobMails:
    """Choose on which ends of jobs you get mails

    It takes an address that is confirmed (422 `no_address`); `mail` of a single job goes before it.
    """
    with services().sessions.begin() as db:
        changed = notices.choose(db, services().settings.mail, current_user(), json_data.jobs)
    return _job_mails(changed)


def _job_mails(row: models.User) -> mail_schemas.JobMails:
    section = services().settings.mail
    return mail_schemas.JobMails(
        jobs=Wish(row.job_mails),
        address=row.mail,
        on=bool(section.host),
        digest_minutes=section.digest_minutes,
    )


@user.get("/me/tokens")
@needs(Scope.READ)
@user.doc(tags=["users"], operation_id="list_tokens")
@user.output(schemas.Tokens)
def list_tokens() -> schemas.Tokens:
    """List your API tokens that are good"""
    with services().sessions() as db:
        rows = users.live_tokens(db, current_user())
    return schemas.Tokens(items=[schemas.Token.model_validate(row) for row in rows])


@user.post("/me/tokens")
@needs(Scope.ACCOUNT)
@user.doc(tags=["users"], operation_id="make_token")
@user.input(schemas.TokenIn)
@user.output(schemas.TokenOut, status_code=201)
def make_token(json_data: schemas.TokenIn) -> schemas.TokenOut:
    """Make an API token

    It may do no more than the token that asks (403 `scope_missing`), and is good no longer.
    """
    with services().sessions.begin() as db:
        plain = users.issue_token(
            db,
            current_user(),
            json_data.name,
            days=json_data.days,
            wanted=json_data.scopes,
            maker=current_token(),
        )
    return schemas.TokenOut(token=plain)


@user.delete("/me/tokens/<uuid:token>")
@needs(Scope.ACCOUNT)
@user.doc(tags=["users"], operation_id="revoke_token")
@user.output({}, status_code=204)
def revoke_token(token: uuid.UUID) -> tuple[str, int]:
    """Revoke one of your API tokens

    Tokens that it has made stay good.
    """
    with services().sessions.begin() as db:
        users.revoke_one_token(db, current_user(), token)
    return "", 204


@user.get("/me/sessions")
@needs(Scope.READ)
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
@needs(Scope.ACCOUNT)
@user.doc(tags=["users"], operation_id="end_session")
@user.output({}, status_code=204)
def end_session(session: uuid.UUID) -> tuple[str, int]:
    """Sign one browser out"""
    with services().sessions.begin() as db:
        sessions.end_one(db, current_user(), session)
    return "", 204


@user.delete("/me/sessions")
@needs(Scope.ACCOUNT)
@user.doc(tags=["users"], operation_id="end_sessions")
@user.output({}, status_code=204)
def end_sessions() -> tuple[str, int]:
    """Sign all your browsers out

    API tokens stay as good as before.
    """
    with services().sessions.begin() as db:
        sessions.end_all(db, current_user())
    return "", 204
