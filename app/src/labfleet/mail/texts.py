"""What mails say: plain words, what to do, by when, and what if it was not you."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from labfleet.mail.outbox import Text

LABEL = 60
"""So much of a label stands in a subject."""
ENDS = {
    "success": "has ended with success",
    "failed": "has failed",
    "partial": "has ended in part: some of its results are there",
    "inapplicable": "does not apply to its data",
    "cancelled": "was cancelled",
}
"""What has become of a job, by its state."""


@dataclass(frozen=True)
class Ended:
    """What is told of a job that has ended: nothing of its data. `by_…`: how many tasks failed by whom."""

    label: str
    state: str
    tasks: int
    by_user: int
    by_system: int
    link: str


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


def job_ended(name: str, job: Ended, setting: str, seconds: float) -> Text:
    """That a job has ended, and how."""
    return Text(
        subject=f"Labfleet: {_label(job)[:LABEL]}: {job.state}",
        body=f"""\
Hello {name},

your job "{_label(job)}" {ENDS[job.state]}.
{"".join(_faults(job))}
    {job.link}

{_unsubscribe(setting)}
""",
        seconds=seconds,
    )


def jobs_ended(  # noqa: PLR0917 - each is a part of the mail
    name: str, jobs: Sequence[Ended], shown: int, rest: str, setting: str, seconds: float
) -> Text:
    """What has become of several jobs; of more than `shown` the page `rest` tells."""
    told = "\n".join(
        "\n".join(
            [f"{job.state}: {_label(job)}", *(f"    {line.strip()}" for line in [*_faults(job), job.link])]
        )
        for job in jobs[:shown]
    )
    more = f"\nand {len(jobs) - shown} more: {rest}\n" if len(jobs) > shown else ""
    return Text(
        subject=f"Labfleet: {_counted(len(jobs), 'job')} ended: {_tally(jobs)}",
        body=f"""\
Hello {name},

these jobs of yours have ended:

{told}
{more}
{_unsubscribe(setting)}
""",
        seconds=seconds,
    )


def _label(job: Ended) -> str:
    """On one line: a break would make another header of the subject."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in job.label).split())


def _faults(job: Ended) -> list[str]:
    lines = []
    if job.by_user:
        lines.append(f"{_of(job.by_user, job)}The protocol or the data is at fault (user).\n")
    if job.by_system:
        lines.append(f"{_of(job.by_system, job)}This Labfleet is at fault (system): its admin can help.\n")
    return lines


def _of(number: int, job: Ended) -> str:
    return "" if job.tasks == 1 else f"{number} of its {job.tasks} tasks failed. "


def _tally(jobs: Sequence[Ended]) -> str:
    counts = [(sum(job.state == state for job in jobs), state) for state in ENDS]
    return ", ".join(f"{number} {state}" for number, state in counts if number)


def _unsubscribe(setting: str) -> str:
    return f"You get this because you asked for it. Which mails about jobs you get, or none:\n\n    {setting}"


def words(seconds: float) -> str:
    """A time as one says it: `7 days`, `24 hours`, `45 minutes`."""
    for unit, worth in (("day", 86400), ("hour", 3600)):
        if seconds >= 2 * worth or seconds == worth:
            return _counted(round(seconds / worth), unit)
    return _counted(max(round(seconds / 60), 1), "minute")


def _counted(number: int, unit: str) -> str:
    return f"{number} {unit}{'s' if number != 1 else ''}"
