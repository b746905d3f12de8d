"""One conversation with the SMTP server: connected, encrypted, signed in, then mail after mail."""

from __future__ import annotations

import smtplib
import ssl
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from labfleet.config import MailSection
from labfleet.db.models import Mail
from labfleet.mail.notices import PATH
from labfleet.mail.outbox import Kind

NAME = "Labfleet"
OF_JOBS = frozenset({Kind.JOB.value, Kind.JOBS.value})
MAX_ERROR = 500


class ServerAway(Exception):
    """The server can't be spoken to: away, not trusted, or it lets us in no more. No fault of a mail."""


class Refused(Exception):
    """The server won't take this mail; `final` if it never will."""

    def __init__(self, said: str, *, final: bool) -> None:
        super().__init__(said)
        self.final = final


def message(row: Mail, sender: str, site: str) -> EmailMessage:
    """The row as a mail. Each try has the same Message-ID, by which a mail that comes twice is known.

    `ValueError` where a line break would make one header two.
    """
    mail = EmailMessage(policy=SMTP)
    mail["From"] = Address(NAME, addr_spec=sender)
    mail["To"] = Address(addr_spec=row.recipient)
    mail["Subject"] = row.subject
    mail["Date"] = format_datetime(row.created_at)
    mail["Message-ID"] = f"<{row.id}@{urlsplit(site).hostname or 'labfleet'}>"
    # So that no absence notice answers.
    mail["Auto-Submitted"] = "auto-generated"
    mail["X-Auto-Response-Suppress"] = "All"
    if row.kind in OF_JOBS:
        mail["List-Unsubscribe"] = f"<{site.rstrip('/')}{PATH}>"
    mail.set_content(row.body)
    return mail


class Server:
    """The server while a batch is sent: `open` connects, the end of `with` says good-bye."""

    def __init__(self, section: MailSection, password: str | None, site: str) -> None:
        self._section = section
        self._password = password
        self._name = urlsplit(site).hostname
        self._connection: smtplib.SMTP | None = None

    def open(self) -> None:
        """Connect. Raises `ServerAway`."""
        try:
            self._connection = self._connected()
        except (OSError, smtplib.SMTPException) as error:
            raise ServerAway(_said(error)) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.quit()
            except (OSError, smtplib.SMTPException):
                connection.close()

    def send(self, mail: EmailMessage) -> None:
        """Hand one mail over. Raises `Refused`, or `ServerAway` when the conversation has ended."""
        if self._connection is None:
            raise ServerAway("The server is not connected.")
        try:
            self._connection.send_message(mail)
        except smtplib.SMTPServerDisconnected as error:
            raise ServerAway(_said(error)) from None
        except smtplib.SMTPRecipientsRefused as error:
            ((code, text),) = error.recipients.values()
            raise Refused(_answer(code, text), final=code >= 500) from None
        except smtplib.SMTPResponseException as error:
            if error.smtp_code == 421:  # it closes the connection
                raise ServerAway(_said(error)) from None
            raise Refused(_said(error), final=error.smtp_code >= 500) from None
        except smtplib.SMTPException as error:
            raise Refused(_said(error), final=True) from None
        except OSError as error:
            raise ServerAway(_said(error)) from None

    def _connected(self) -> smtplib.SMTP:
        section = self._section
        # The name by which we greet: without it smtplib asks name servers for one.
        where = (section.host, section.port, self._name)
        if section.security == "tls":
            connection: smtplib.SMTP = smtplib.SMTP_SSL(
                *where, timeout=section.timeout_seconds, context=self._context()
            )
        else:
            connection = smtplib.SMTP(*where, timeout=section.timeout_seconds)
        try:
            if section.security == "starttls":
                connection.starttls(context=self._context())
            if section.user:
                connection.login(section.user, self._password or "")
        except BaseException:
            connection.close()
            raise
        return connection

    def _context(self) -> ssl.SSLContext:
        ca_file = self._section.ca_file
        return ssl.create_default_context(cafile=str(ca_file) if ca_file else None)


def _said(error: Exception) -> str:
    """What was wrong, for the admin: the server's own words, where it has said any."""
    if isinstance(error, smtplib.SMTPResponseException):
        return _answer(error.smtp_code, error.smtp_error)
    return (str(error) or type(error).__name__)[:MAX_ERROR]


def _answer(code: int, text: bytes | str) -> str:
    words = text.decode(errors="replace") if isinstance(text, bytes) else text
    return f"{code} {' '.join(words.split())}"[:MAX_ERROR]
