"""Mail as an admin looks after it: whether it is set up, how mails went, and one to try it out."""

from __future__ import annotations

import uuid

from labfleet.db import models
from labfleet.mail import outbox, texts
from labfleet.users import audit, links
from labfleet.users.audit import Action
from labfleet.users.scopes import Scope
from labfleet.web.api import mail_schemas as schemas
from labfleet.web.api.blueprints import user
from labfleet.web.auth import current_user, needs
from labfleet.web.services import services


@user.get("/mail")
@needs(Scope.ADMIN)
@user.doc(tags=["users"], operation_id="show_mail")
@user.output(schemas.MailState)
def show_mail() -> schemas.MailState:
    """Tell whether mail is set up, and how mails go"""
    section = services().settings.mail
    with services().sessions() as db:
        told = outbox.tally(db)
    return schemas.MailState(
        on=bool(section.host),
        server=f"{section.host}:{section.port}" if section.host else None,
        sender=section.sender or None,
        waiting=told.waiting,
        late_seconds=told.late_seconds,
        given_up=told.given_up,
        last_error=told.error,
    )


@user.get("/mail/messages")
@needs(Scope.ADMIN)
@user.doc(tags=["users"], operation_id="list_mails")
@user.input(schemas.MailQuery, location="query")
@user.output(schemas.Mails)
def list_mails(query_data: schemas.MailQuery) -> schemas.Mails:
    """List the mails that were written last

    Nobody reads what they say: a text may have a one-time link in it.
    """
    with services().sessions() as db:
        rows = outbox.latest(db, waiting=query_data.waiting, limit=query_data.limit)
    return schemas.Mails(items=[_told(row) for row in rows])


@user.get("/mail/messages/<uuid:mail>")
@needs(Scope.ADMIN)
@user.doc(tags=["users"], operation_id="get_mail")
@user.output(schemas.Mail)
def get_mail(mail: uuid.UUID) -> schemas.Mail:
    """Tell how one mail went"""
    with services().sessions() as db:
        return _told(outbox.get(db, mail))


@user.post("/mail/test")
@needs(Scope.ADMIN)
@user.doc(tags=["users"], operation_id="try_mail")
@user.input(schemas.MailTest)
@user.output(schemas.Mail, status_code=202)
def try_mail(json_data: schemas.MailTest) -> schemas.Mail:
    """Send a mail to try it out

    It is on its way when this answers; ask for it by its id until it is `sent` or `given up`.
    """
    settings = services().settings
    outbox.need(settings.mail)
    address = links.check_address(json_data.address)
    said = texts.test(settings.web.public_url, current_user().name)
    with services().sessions.begin() as db:
        row = outbox.write(db, outbox.Kind.TEST, address, said, user=current_user())
        audit.record(db, Action.MAIL_TRIED, address)
    return _told(row)


def _told(row: models.Mail) -> schemas.Mail:
    return schemas.Mail(
        id=row.id,
        kind=row.kind,
        address=row.recipient,
        subject=row.subject,
        state="sent" if row.sent_at else "given up" if row.given_up_at else "waiting",
        tries=row.tries,
        last_error=row.last_error,
        created_at=row.created_at,
        sent_at=row.sent_at,
    )
