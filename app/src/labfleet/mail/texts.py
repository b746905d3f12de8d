"""What mails say: plain words, what to do, by when, and what if it was not you."""

from __future__ import annotations

from labfleet.mail.outbox import Text


def test(site: str, admin: str) -> Text:
    """That mails arrive."""
    return Text(
        subject="Labfleet: a mail to try it out",
        body=f"""\
Hello,

this mail shows that Labfleet at {site} can send mails to you.
{admin} has asked for it. There is nothing that you have to do.

If you have nothing to do with that Labfleet, please ignore this mail.
""",
        seconds=3600,
    )
