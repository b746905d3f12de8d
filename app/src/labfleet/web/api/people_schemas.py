"""What goes in and comes out of the calls about accounts and the audit log."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated, Any

from pydantic import Field

from labfleet.web.api.schemas import In, Name, Out

Password = Annotated[str, Field(min_length=1, max_length=1024)]


class PeopleQuery(In):
    """Which accounts: a part of the name, or a group."""

    text: Annotated[str, Field(max_length=100)] | None = None
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    after: Annotated[str, Field(max_length=100)] | None = None


class PersonIn(In):
    """A new account."""

    name: Name
    password: Password
    is_admin: Annotated[bool, Field(strict=True)] = False


class PersonChange(In):
    """What to change; what is left out stays."""

    is_admin: Annotated[bool, Field(strict=True)] | None = None
    disabled: Annotated[bool, Field(strict=True)] | None = None


class PasswordIn(In):
    """A password for somebody."""

    password: Password


class Person(Out):
    """An account as an admin sees it; `tokens` are those that are still good."""

    id: uuid.UUID
    name: str
    mail: str | None
    is_admin: bool
    disabled: bool
    group: str | None
    second_factor: bool
    tokens: int
    created_at: datetime


class Identity(Out):
    """Who a user is at a provider of sign-ins (`subject` of `issuer`; `name` is what it said last), which
    opens the account. `gives_admin`: the user is an admin because the provider says so."""

    id: uuid.UUID
    issuer: str
    subject: str
    name: str
    gives_admin: bool
    created_at: datetime
    last_used_at: datetime | None


class Identities(Out):
    """By which providers a user signs in."""

    items: list[Identity]
    next: None = None


class InvitationIn(In):
    """Whom to invite; without a name the invited person chooses it."""

    mail: Annotated[str, Field(min_length=1, max_length=254)]
    name: Annotated[str, Field(max_length=100)] = ""
    is_admin: Annotated[bool, Field(strict=True)] = False


class Invitation(Out):
    """An invitation that nobody has followed yet; its link is good until `expires_at`."""

    id: uuid.UUID
    mail: str
    name: str | None
    is_admin: bool
    made_by: str
    created_at: datetime
    expires_at: datetime


class Invitations(Out):
    """The invitations that nobody has followed yet, the newest first."""

    items: list[Invitation]


class Accounts(Out):
    """A page of accounts, by name."""

    items: list[Person]
    next: str | None


class AuditQuery(In):
    """Which entries: what `user` did or what was done to it; an action, or its first word."""

    user: Annotated[str, Field(max_length=100)] | None = None
    kind: Annotated[str, Field(max_length=100)] | None = None
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    after: Annotated[int, Field(ge=1, le=2**63 - 1)] | None = None


class AuditEntry(Out):
    """Who (`actor`) did what (`action`) to whom or what (`subject`), by which way in, from which address."""

    id: int
    at: datetime
    actor: str
    via: str
    address: str
    action: str
    subject: str
    detail: dict[str, Any]


class AuditLog(Out):
    """A page of the audit log, the newest first."""

    items: list[AuditEntry]
    next: int | None
