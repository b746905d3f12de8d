"""Accounts as an admin looks after them, and the audit log."""

from __future__ import annotations

import uuid

from sqlalchemy.orm import Session

from labfleet.db import models
from labfleet.users import audit, identities, invitations, people, sessions
from labfleet.users import service as users
from labfleet.users.scopes import Scope
from labfleet.web.api import people_schemas as schemas
from labfleet.web.api.blueprints import user
from labfleet.web.auth import current_user, needs
from labfleet.web.services import services


@user.get("/users")
@needs(Scope.ADMIN)
@user.doc(tags=["users"], operation_id="list_users")
@user.input(schemas.PeopleQuery, location="query")
@user.output(schemas.Accounts)
def list_users(query_data: schemas.PeopleQuery) -> schemas.Accounts:
    """List the users"""
    with services().sessions() as db:
        page = people.page(db, text=query_data.text, limit=query_data.limit, after=query_data.after)
    return schemas.Accounts(items=[_person(one) for one in page.items], next=page.next)


@user.post("/users")
@needs(Scope.ADMIN)
@user.doc(tags=["users"], operation_id="add_user")
@user.input(schemas.PersonIn)
@user.output(schemas.Person, status_code=201)
def add_user(json_data: schemas.PersonIn) -> schemas.Person:
    """Make a user"""
    with services().sessions.begin() as db:
        return _told(db, users.add_user(db, **json_data.model_dump()))


@user.get("/users/<name>")
@needs(Scope.ADMIN)
@user.doc(tags=["users"], operation_id="show_user")
@user.output(schemas.Person)
def show_user(name: str) -> schemas.Person:
    """Show a user"""
    with services().sessions() as db:
        return _told(db, users.get_user(db, name))


@user.patch("/users/<name>")
@needs(Scope.ADMIN)
@user.doc(tags=["users"], operation_id="change_user")
@user.input(schemas.PersonChange)
@user.output(schemas.Person)
def change_user(name: str, json_data: schemas.PersonChange) -> schemas.Person:
    """Disable or enable a user, make him an admin or not

    An admin can't do this to himself, so that there is always one left.
    """
    with services().sessions.begin() as db:
        if json_data.is_admin is not None:
            people.set_admin(db, current_user(), name, is_admin=json_data.is_admin)
        if json_data.disabled is not None:
            people.set_disabled(db, current_user(), name, disabled=json_data.disabled)
        return _told(db, users.get_user(db, name))


@user.put("/users/<name>/password")
@needs(Scope.ADMIN)
@user.doc(tags=["users"], operation_id="reset_password")
@user.input(schemas.PasswordIn)
@user.output({}, status_code=204)
def reset_password(name: str, json_data: schemas.PasswordIn) -> tuple[str, int]:
    """Give a user another password

    It ends all sessions of the user.
    """
    with services().sessions.begin() as db:
        people.reset_password(db, name, json_data.password)
    return "", 204


@user.delete("/users/<name>/second-factor")
@needs(Scope.ADMIN)
@user.doc(tags=["users"], operation_id="reset_second_factor")
@user.output({}, status_code=204)
def reset_second_factor(name: str) -> tuple[str, int]:
    """Switch off the second factor of a user who has lost it"""
    with services().sessions.begin() as db:
        people.reset_second_factor(db, name)
    return "", 204


@user.delete("/users/<name>/sessions")
@needs(Scope.ADMIN)
@user.doc(tags=["users"], operation_id="end_user_sessions")
@user.output({}, status_code=204)
def end_user_sessions(name: str) -> tuple[str, int]:
    """Sign a user out everywhere"""
    with services().sessions.begin() as db:
        sessions.end_all(db, users.get_user(db, name))
    return "", 204


@user.delete("/users/<name>/tokens")
@needs(Scope.ADMIN)
@user.doc(tags=["users"], operation_id="revoke_user_tokens")
@user.output({}, status_code=204)
def revoke_user_tokens(name: str) -> tuple[str, int]:
    """Revoke all tokens of a user"""
    with services().sessions.begin() as db:
        users.revoke_token(db, users.get_user(db, name))
    return "", 204


@user.get("/users/<name>/identities")
@needs(Scope.ADMIN)
@user.doc(tags=["users"], operation_id="list_identities")
@user.output(schemas.Identities)
def list_identities(name: str) -> schemas.Identities:
    """List by which providers of sign-ins a user's account is opened"""
    with services().sessions() as db:
        rows = identities.all_of(db, users.get_user(db, name))
        return schemas.Identities(items=[schemas.Identity.model_validate(row) for row in rows])


@user.delete("/users/<name>/identities/<uuid:identity>")
@needs(Scope.ADMIN)
@user.doc(tags=["users"], operation_id="unlink_identity")
@user.output({}, status_code=204)
def unlink_identity(name: str, identity: uuid.UUID) -> tuple[str, int]:
    """Let a provider of sign-ins open a user's account no more

    It ends all sessions of the user. Who has no password gets in again by one that an admin gives.
    """
    with services().sessions.begin() as db:
        people.unlink(db, current_user(), name, identity)
    return "", 204


@user.get("/invitations")
@needs(Scope.ADMIN)
@user.doc(tags=["users"], operation_id="list_invitations")
@user.output(schemas.Invitations)
def list_invitations() -> schemas.Invitations:
    """List the invitations that nobody has followed yet"""
    with services().sessions() as db:
        rows = invitations.under_way(db)
    return schemas.Invitations(items=[schemas.Invitation.model_validate(row) for row in rows])


@user.post("/invitations")
@needs(Scope.ADMIN)
@user.doc(tags=["users"], operation_id="invite")
@user.input(schemas.InvitationIn)
@user.output(schemas.Invitation, status_code=201)
def invite(json_data: schemas.InvitationIn) -> schemas.Invitation:
    """Invite somebody by mail

    Whoever reads the mail makes the account, by a link that is good once and for a while.
    """
    with services().sessions.begin() as db:
        row = invitations.invite(db, services().post, current_user(), **json_data.model_dump())
        db.refresh(row)
        return schemas.Invitation.model_validate(row)


@user.post("/invitations/<uuid:invitation>/resend")
@needs(Scope.ADMIN)
@user.doc(tags=["users"], operation_id="send_invitation_again")
@user.output(schemas.Invitation)
def send_invitation_again(invitation: uuid.UUID) -> schemas.Invitation:
    """Send an invitation again

    The link that was sent before is good no more.
    """
    with services().sessions.begin() as db:
        row = invitations.send_again(db, services().post, current_user(), invitation)
        return schemas.Invitation.model_validate(row)


@user.delete("/invitations/<uuid:invitation>")
@needs(Scope.ADMIN)
@user.doc(tags=["users"], operation_id="withdraw_invitation")
@user.output({}, status_code=204)
def withdraw_invitation(invitation: uuid.UUID) -> tuple[str, int]:
    """Take an invitation back"""
    with services().sessions.begin() as db:
        invitations.withdraw(db, invitation)
    return "", 204


@user.get("/audit")
@needs(Scope.ADMIN)
@user.doc(tags=["users"], operation_id="list_audit")
@user.input(schemas.AuditQuery, location="query")
@user.output(schemas.AuditLog)
def list_audit(query_data: schemas.AuditQuery) -> schemas.AuditLog:
    """Read the audit log, the newest entries first"""
    with services().sessions() as db:
        page = audit.entries(db, **query_data.model_dump())
    return schemas.AuditLog(
        items=[schemas.AuditEntry.model_validate(row) for row in page.items], next=page.next
    )


def _told(db: Session, row: models.User) -> schemas.Person:
    (found,) = people.described(db, [row])
    return _person(found)


def _person(found: people.Person) -> schemas.Person:
    row = found.user
    return schemas.Person(
        id=row.id,
        name=row.name,
        mail=row.mail,
        is_admin=row.is_admin,
        disabled=row.disabled_at is not None,
        group=row.group_name,
        second_factor=found.second_factor,
        tokens=found.tokens,
        created_at=row.created_at,
    )
