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


def invitation(site: str, admin: str, link: str, seconds: float, name: str | None) -> Text:
    """That somebody may make himself an account."""
    chosen = f"Your name there will be {name}; you choose a password." if name else ""
    return Text(
        subject="You are invited to Labfleet",
        body=f"""\
Hello,

{admin} invites you to Labfleet at {site},
where you run analyses and get their results.

Open this link to make your account. {chosen or "You choose a name and a password."}

    {link}

The link works once, within {words(seconds)} of this mail.

If you did not expect this, please ignore this mail: without the link nothing happens.
""",
        seconds=seconds,
    )


def password(site: str, name: str, link: str, seconds: float) -> Text:
    """How to choose another password."""
    return Text(
        subject="Labfleet: choose another password",
        body=f"""\
Hello {name},

somebody, probably you, has forgotten the password of your account at {site}.

Open this link to choose another one:

    {link}

The link works once, within {words(seconds)} of this mail.

If it was not you, please ignore this mail: your password stays as it is.
""",
        seconds=seconds,
    )


def password_changed(site: str, name: str) -> Text:
    """That the password was changed."""
    return Text(
        subject="Labfleet: your password was changed",
        body=f"""\
Hello {name},

the password of your account at {site} was just changed,
and all browsers that were signed in have been signed out.

If it was you, there is nothing that you have to do.

If it was not you, somebody else can read your mails or knew your password. Choose another
password of your mailbox first, then tell the admin of this Labfleet at once.
""",
    )


def address(site: str, name: str, link: str, seconds: float) -> Text:
    """How to confirm an address."""
    return Text(
        subject="Labfleet: is this your address?",
        body=f"""\
Hello,

the account {name} at {site} wants to use this mail address.

If it is yours, open this link to confirm it:

    {link}

The link works once, within {words(seconds)} of this mail.

If it is not yours, please ignore this mail: nothing will be sent here again.
""",
        seconds=seconds,
    )


def address_changed(site: str, name: str, to: str) -> Text:
    """To the address that was used before."""
    return Text(
        subject="Labfleet: your mail address was changed",
        body=f"""\
Hello {name},

your account at {site} uses another mail address from now on: {to}

If it was you, there is nothing that you have to do.

If it was not you, somebody else knows your password: tell the admin of this Labfleet at once.
""",
    )


def words(seconds: float) -> str:
    """A time as one says it: `7 days`, `24 hours`, `45 minutes`."""
    for unit, worth in (("day", 86400), ("hour", 3600)):
        if seconds >= 2 * worth or seconds == worth:
            return _counted(round(seconds / worth), unit)
    return _counted(max(round(seconds / 60), 1), "minute")


def _counted(number: int, unit: str) -> str:
    return f"{number} {unit}{'s' if number != 1 else ''}"
