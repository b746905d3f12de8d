"""Invitations: an admin names an address, whoever reads the mail makes the account. No function commits."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from labfleet.db.models import Link, User
from labfleet.errors import Conflict, LinkOver, NotFound, UserExists
from labfleet.mail import outbox, texts
from labfleet.mail.outbox import Post
from labfleet.users import audit, links
from labfleet.users import service as users
from labfleet.users.audit import Action
from labfleet.users.links import Kind

# The key is in the query, which no log of requests has.
PATH = "/invitation?key="


def invite(
    session: Session, post: Post, admin: User, mail: str, *, name: str = "", is_admin: bool = False
) -> Link:
    """Send an invitation; without a `name` the invited person chooses it.

    Raises `MailOff`, `Invalid`, `UserExists`, or `Conflict` where one is under way.
    """
    post.need()
    mail = links.check_address(mail)
    owner = links.owner_of(session, mail)
    if owner is not None:
        raise UserExists(f"{mail} is the address of the user '{owner.name}'.", hint="Nothing is to be done.")
    if (
        session.scalar(
            select(Link.id).where(Link.kind == Kind.INVITATION.value, links.OPEN, links.of_address(mail))
        )
        is not None
    ):
        raise Conflict(f"{mail} is invited already.", hint="Send the invitation again, or take it back.")
    if name:
        users.check_name(name)
        if session.scalar(select(User.id).where(User.name == name)) is not None:
            raise UserExists(f"There is a user '{name}' already.", hint="Choose another name, or none.")
    seconds = post.section.invitation_hours * 3600
    row, key = links.make(
        session,
        Kind.INVITATION,
        mail,
        seconds,
        name=name or None,
        is_admin=is_admin,
        made_by=admin.name,
    )
    _send(session, post, row, key, admin)
    audit.record(session, Action.USER_INVITED, mail, name=name or None, is_admin=is_admin)
    return row


def under_way(session: Session) -> Sequence[Link]:
    """The invitations that nobody has followed yet, those that have ended too, the newest first."""
    statement = select(Link).where(
        Link.kind == Kind.INVITATION.value, Link.used_at.is_(None), Link.withdrawn_at.is_(None)
    )
    return session.scalars(statement.order_by(Link.created_at.desc(), Link.id)).all()


def send_again(session: Session, post: Post, admin: User, link_id: uuid.UUID) -> Link:
    """Send it again with another link; the one before is good no more."""
    post.need()
    row = _get(session, link_id)
    key = links.renew(session, row, post.section.invitation_hours * 3600)
    _send(session, post, row, key, admin)
    audit.record(session, Action.USER_INVITED_AGAIN, row.mail)
    session.refresh(row)
    return row


def withdraw(session: Session, link_id: uuid.UUID) -> None:
    """Take an invitation back: its link is good no more."""
    row = _get(session, link_id)
    row.withdrawn_at = func.clock_timestamp()
    audit.record(session, Action.USER_INVITATION_WITHDRAWN, row.mail)
    session.flush()


def look(session: Session, key: str) -> Link:
    """The invitation with this key. `LinkOver` if it is good no more."""
    return links.look(session, Kind.INVITATION, key)


def accept(session: Session, key: str, name: str, password: str) -> User:
    """Make the account. Raises `LinkOver`, `Invalid`, or `UserExists` for a name that somebody has."""
    row = links.look(session, Kind.INVITATION, key, lock=True)
    if links.owner_of(session, row.mail) is not None:
        raise LinkOver("Somebody with this address has an account already.", hint="Sign in with it.")
    made = users.add_user(session, row.name or name, password, is_admin=row.is_admin)
    links.give(session, made, row.mail)
    links.use(row)
    audit.record(session, Action.USER_JOINED, made.name, address=row.mail, invited_by=row.made_by)
    session.flush()
    return made


def _get(session: Session, link_id: uuid.UUID) -> Link:
    row = session.get(Link, link_id, with_for_update=True, populate_existing=True)
    over = row is not None and (row.used_at is not None or row.withdrawn_at is not None)
    if row is None or row.kind != Kind.INVITATION.value or over:
        raise NotFound(f"There is no invitation {link_id}.", hint="It may have been used or taken back.")
    return row


def _send(session: Session, post: Post, row: Link, key: str, admin: User) -> None:
    said = texts.invitation(
        post.site, admin.name, post.address(PATH + key), post.section.invitation_hours * 3600, row.name
    )
    outbox.write(session, outbox.Kind.INVITATION, row.mail, said)
