"""The audit log: who did what to accounts, rights, quotas and the fleet, to whom protocols, data and
results were given, what was deleted, and what was done to jobs of others. Rows are added and never changed.

A service function writes its row in its own transaction, so that there is none without the other. Who is
acting is known to whoever took the request (`acting`), and never a secret is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from labfleet.db.models import AuditRow, User


class Action(StrEnum):
    """What was done; the first word says to what kind of thing."""

    SESSION_BEGUN = "session.begun"
    SESSION_ENDED = "session.ended"
    SIGN_IN_FAILED = "session.refused"
    PASSWORD_CHANGED = "password.changed"  # noqa: S105 - the name of an action
    PASSWORD_RESET = "password.reset"  # noqa: S105 - the name of an action
    PASSWORD_FORGOTTEN = "password.forgotten"  # noqa: S105 - the name of an action
    PASSWORD_RECOVERED = "password.recovered"  # noqa: S105 - the name of an action
    TOKEN_MADE = "token.made"  # noqa: S105 - the name of an action
    TOKEN_REVOKED = "token.revoked"  # noqa: S105 - the name of an action
    SECOND_FACTOR_ON = "second_factor.on"
    SECOND_FACTOR_OFF = "second_factor.off"
    SECOND_FACTOR_CODES = "second_factor.codes"
    SECOND_FACTOR_RECOVERED = "second_factor.recovered"
    SECOND_FACTOR_REFUSED = "second_factor.refused"
    USER_MADE = "user.made"
    USER_INVITED = "user.invited"
    USER_INVITED_AGAIN = "user.invited_again"
    USER_INVITATION_WITHDRAWN = "user.invitation_withdrawn"
    USER_JOINED = "user.joined"
    IDENTITY_LINKED = "identity.linked"
    IDENTITY_UNLINKED = "identity.unlinked"
    IDENTITY_REFUSED = "identity.refused"
    ADDRESS_CHANGED = "address.changed"
    USER_DISABLED = "user.disabled"
    USER_ENABLED = "user.enabled"
    USER_PROMOTED = "user.promoted"
    USER_DEMOTED = "user.demoted"
    QUOTA_CHANGED = "quota.changed"
    GROUP_CHANGED = "group.changed"
    GROUP_DELETED = "group.deleted"
    RESERVATION_CHANGED = "reservation.changed"
    RESERVATION_DELETED = "reservation.deleted"
    MAIL_TRIED = "mail.tried"
    WORKER_INVITED = "worker.invited"
    WORKER_INVITATION_WITHDRAWN = "worker.invitation_withdrawn"
    WORKER_JOINED = "worker.joined"
    WORKER_JOIN_REFUSED = "worker.join_refused"
    WORKER_DRAINED = "worker.drained"
    WORKER_RESUMED = "worker.resumed"
    WORKER_REMOVED = "worker.removed"
    PROTOCOL_VERSION = "protocol.version"
    PROTOCOL_SHARED = "protocol.shared"
    PROTOCOL_UNSHARED = "protocol.unshared"
    PROTOCOL_PUBLISHED = "protocol.published"
    PROTOCOL_WITHDRAWN = "protocol.withdrawn"
    PROTOCOL_TRANSFERRED = "protocol.transferred"
    PROTOCOL_DELETED = "protocol.deleted"
    DATASET_SHARED = "dataset.shared"
    DATASET_UNSHARED = "dataset.unshared"
    DATASET_PUBLISHED = "dataset.published"
    DATASET_WITHDRAWN = "dataset.withdrawn"
    DATASET_DELETED = "dataset.deleted"
    SOURCE_SHARED = "source.shared"
    SOURCE_UNSHARED = "source.unshared"
    SOURCE_PUBLISHED = "source.published"
    SOURCE_WITHDRAWN = "source.withdrawn"
    SOURCE_DELETED = "source.deleted"
    JOB_SHARED = "job.shared"
    JOB_UNSHARED = "job.unshared"
    JOB_PUBLISHED = "job.published"
    JOB_WITHDRAWN = "job.withdrawn"
    JOB_OF_ANOTHER = "job.of_another"
    JOB_DELETED = "job.deleted"


@dataclass(frozen=True)
class Actor:
    """Who acts, by which way in (`page`, `api`, `git`, `command`), from which address; without a user nobody
    is known, or it is Labfleet itself, by `name`."""

    via: str
    user: User | None = None
    name: str = ""
    address: str = ""


@dataclass(frozen=True)
class Page:
    """One page of the log, newest first; `next` goes into `after` for the following page, None at the end."""

    items: Sequence[AuditRow]
    next: int | None


_ITSELF = Actor("labfleet", name="labfleet")
_ACTOR: ContextVar[Actor] = ContextVar("labfleet_actor", default=_ITSELF)


def acting(actor: Actor) -> None:
    """Who acts from now on in this thread or task."""
    _ACTOR.set(actor)


def record(session: Session, action: Action, subject: str, **detail: Any) -> None:
    """Add what was done to whom or what; `detail` is JSON and has no secret."""
    actor = _ACTOR.get()
    session.add(
        AuditRow(
            actor_id=actor.user.id if actor.user else None,
            actor=actor.user.name if actor.user else actor.name,
            via=actor.via,
            address=actor.address,
            action=action.value,
            subject=subject,
            detail=detail,
        )
    )


def entries(
    session: Session,
    *,
    user: str | None = None,
    kind: str | None = None,
    limit: int = 50,
    after: int | None = None,
) -> Page:
    """The log, newest first: what `user` did or was done to it; `kind` is an action or its first word."""
    statement = select(AuditRow).order_by(AuditRow.id.desc()).limit(limit + 1)
    if user:
        statement = statement.where(or_(AuditRow.actor == user, AuditRow.subject == user))
    if kind:
        statement = statement.where(
            or_(AuditRow.action == kind, AuditRow.action.startswith(f"{kind}.", autoescape=True))
        )
    if after is not None:
        statement = statement.where(AuditRow.id < after)
    rows = session.scalars(statement).all()
    return Page(rows[:limit], rows[limit - 1].id if len(rows) > limit else None)


KINDS = tuple(dict.fromkeys(action.partition(".")[0] for action in Action))
"""The first words of all actions."""
