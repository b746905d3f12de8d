"""Sign-in by a provider: who is let in, which account it opens, linking. No function commits; callers do.

An identity is the provider and what it calls the person for ever (`issuer`, `subject`). Names and mail
addresses come and go and open nothing.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from labfleet.db.models import User, UserIdentity
from labfleet.errors import Conflict, Invalid, NotFound, SignOnRefused, UserExists
from labfleet.users import audit, links, sessions
from labfleet.users import service as users
from labfleet.users.audit import Action


@dataclass(frozen=True)
class Claimed:
    """What the provider says of a person; `mail` only if the provider has verified it."""

    issuer: str
    subject: str
    name: str
    mail: str | None = None
    groups: frozenset[str] = frozenset()


class Rules(Protocol):
    """Who is let in, as the admin has set it for one provider."""

    @property
    def allowed_groups(self) -> Sequence[str]:
        """Members of one of them; empty: everybody."""

    @property
    def allowed_mail_domains(self) -> Sequence[str]:
        """Who has a verified address in one of them; empty: everybody."""

    @property
    def admin_groups(self) -> Sequence[str]:
        """Members of one of them are admins."""

    @property
    def accounts(self) -> bool:
        """Whether who is let in and has no account gets one."""

    @property
    def named_by(self) -> str:
        """The setting that says what an account is called."""


def check_allowed(rules: Rules, who: Claimed) -> None:
    """Raise `SignOnRefused` for who is in none of the groups or domains that are let in."""
    if rules.allowed_groups and not who.groups & set(rules.allowed_groups):
        raise SignOnRefused(
            f"'{who.name}' is in none of the groups that this Labfleet lets in.",
            hint="Ask for membership where your groups are looked after, or ask an admin of this Labfleet.",
        )
    domain = (who.mail or "").rpartition("@")[2].lower()
    if rules.allowed_mail_domains and domain not in {one.lower() for one in rules.allowed_mail_domains}:
        raise SignOnRefused(
            f"'{who.name}' has no verified mail address of an institution that this Labfleet lets in.",
            hint="Have your address verified where you have that account, or ask an admin of this Labfleet.",
        )


def enter(session: Session, rules: Rules, who: Claimed) -> User:
    """The user whose account this person opens, made now where `rules` allow it. Raises `SignOnRefused`."""
    check_allowed(rules, who)
    row = _find(session, who) or _make(session, rules, who)
    if row.user.disabled_at is not None:
        raise SignOnRefused(
            f"The account '{row.user.name}' is disabled.", hint="Ask an admin of this Labfleet."
        )
    _follow(session, rules, row, who)
    row.name, row.last_used_at = who.name, func.clock_timestamp()
    session.flush()
    return row.user


def refused(session: Session, who: Claimed, why: str) -> None:
    """Write down that the provider's word was good and the person was not let in."""
    audit.record(session, Action.IDENTITY_REFUSED, who.name, issuer=who.issuer, identity=who.subject, why=why)


def link(session: Session, user: User, who: Claimed) -> UserIdentity:
    """Let this person open the user's account from now on. Raises `Conflict`."""
    found = _find(session, who)
    if found is not None:
        mine = found.user_id == user.id
        raise Conflict(
            "It opens your account already." if mine else f"'{who.name}' opens another account already.",
            hint="Nothing is to be done." if mine else "Ask an admin which of the two accounts should go.",
        )
    if of_user(session, user, who.issuer) is not None:
        raise Conflict("Your account is linked to somebody else there.", hint="Take that link away first.")
    session.get_one(User, user.id, with_for_update=True)
    row = UserIdentity(user_id=user.id, issuer=who.issuer, subject=who.subject, name=who.name)
    session.add(row)
    audit.record(session, Action.IDENTITY_LINKED, user.name, issuer=who.issuer, identity=who.subject)
    session.flush()
    return row


def unlink(session: Session, user: User, issuer: str) -> None:
    """Let the provider open the account no more. Raises `NotFound`, or `Conflict` for the only way in."""
    row = of_user(session, user, issuer)
    if row is None:
        raise NotFound("Your account is not linked.", hint="Nothing is to be done.")
    if not users.has_password(user):
        raise Conflict("It is the only way into your account.", hint="Ask an admin for a password first.")
    _remove(session, row)


def take_away(session: Session, user: User, identity_id: uuid.UUID) -> None:
    """Do it for the user, also where it is the only way in; all of the user's sessions end. `NotFound`."""
    row = session.get(UserIdentity, identity_id, with_for_update={"of": UserIdentity})
    if row is None or row.user_id != user.id:
        raise NotFound(
            f"The user '{user.name}' has no link {identity_id}.",
            hint="Look which ones there are; it may be gone.",
        )
    _remove(session, row)
    sessions.end_all(session, user)


def _remove(session: Session, row: UserIdentity) -> None:
    if row.gives_admin:
        _set_admin(session, row, is_admin=False)
    session.delete(row)
    audit.record(session, Action.IDENTITY_UNLINKED, row.user.name, issuer=row.issuer, identity=row.subject)
    session.flush()


def all_of(session: Session, user: User) -> Sequence[UserIdentity]:
    """Whom the providers know as this user."""
    statement = select(UserIdentity).where(UserIdentity.user_id == user.id)
    return session.scalars(statement.order_by(UserIdentity.issuer)).all()


def of_user(session: Session, user: User, issuer: str) -> UserIdentity | None:
    """Who the user is at this provider, as far as that is known."""
    statement = select(UserIdentity).where(UserIdentity.user_id == user.id, UserIdentity.issuer == issuer)
    return session.scalars(statement).one_or_none()


def _find(session: Session, who: Claimed) -> UserIdentity | None:
    mine = UserIdentity.issuer == who.issuer, UserIdentity.subject == who.subject
    statement = select(UserIdentity).where(*mine).with_for_update(of=UserIdentity)
    return session.scalars(statement).one_or_none()


def _make(session: Session, rules: Rules, who: Claimed) -> UserIdentity:
    if not rules.accounts:
        raise SignOnRefused(
            f"No account of this Labfleet is linked to '{who.name}'.",
            hint="If you have an account, sign in with its password and link it on the page of your account. "
            "If not, ask an admin for one.",
        )
    try:
        user = users.add_without_password(session, who.name, who.issuer)
    except UserExists:
        raise SignOnRefused(
            f"There is an account '{who.name}' already, and it is not linked.",
            hint="If it is yours, sign in with its password and link it on the page of your account. "
            "If not, ask an admin.",
        ) from None
    except Invalid as error:
        raise SignOnRefused(
            error.detail, hint=f"Ask an admin: {rules.named_by} says what is taken."
        ) from None
    if who.mail is not None:
        with suppress(UserExists):  # somebody else's address is not taken from him
            links.give(session, user, who.mail)
    return link(session, user, who)


def _follow(session: Session, rules: Rules, row: UserIdentity, who: Claimed) -> None:
    """Make the user an admin as the groups say; a right that an admin gave stays."""
    says = bool(who.groups & set(rules.admin_groups))
    if says and not row.user.is_admin:
        _set_admin(session, row, is_admin=True)
    elif row.gives_admin and not says:
        _set_admin(session, row, is_admin=False)


def _set_admin(session: Session, row: UserIdentity, *, is_admin: bool) -> None:
    row.gives_admin = is_admin
    if row.user.is_admin != is_admin:
        row.user.is_admin = is_admin
        action = Action.USER_PROMOTED if is_admin else Action.USER_DEMOTED
        audit.record(session, action, row.user.name, issuer=row.issuer)
