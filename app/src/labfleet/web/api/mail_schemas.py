"""What goes in and comes out of the calls about mail."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from labfleet.mail.notices import Wish
from labfleet.web.api.schemas import In, Out


class JobMails(Out):
    """On which ends of jobs mails are sent to you. `on`: whether this Labfleet sends mails at all."""

    jobs: Wish
    address: str | None
    on: bool
    digest_minutes: float


class JobMailsIn(In):
    """`each`: a mail for each job; `digest`: one for all that have ended within `digest_minutes`."""

    jobs: Wish


class MailState(Out):
    """Whether mail is set up (`on`), and how mails go; `given_up` counts those of the last day."""

    on: bool
    server: str | None
    sender: str | None
    waiting: int
    late_seconds: float
    given_up: int
    last_error: str | None


class MailQuery(In):
    """Which mails."""

    waiting: bool = False
    limit: Annotated[int, Field(ge=1, le=200)] = 50


class MailTest(In):
    """Where the mail goes."""

    address: Annotated[str, Field(min_length=1, max_length=254)]


class Mail(Out):
    """How a mail went; `last_error` is what the server said."""

    id: uuid.UUID
    kind: str
    address: str
    subject: str
    state: Literal["waiting", "sent", "given up"]
    tries: int
    last_error: str | None
    created_at: datetime
    sent_at: datetime | None


class Mails(Out):
    """Mails, the newest first."""

    items: list[Mail]
