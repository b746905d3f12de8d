"""`labfleet mail`: on which ends of jobs you get mails; whether Labfleet can send mails, for admins."""

from __future__ import annotations

import time

import click

from labfleet.cli.client import Client, at
from labfleet.cli.output import json_option, local_time, print_json, table, with_client
from labfleet.errors import Unavailable

LOOK_SECONDS = 0.5
_SAID = {
    "never": "You get no mails when jobs end, unless a job asks for one (labfleet submit --mail).",
    "each": "You get a mail when a job ends.",
    "digest": "You get one mail for all jobs that end within {minutes} minutes.",
}


@click.group()
def mail() -> None:
    """Mails when your jobs end; and for admins: try whether mails go out, see how they went."""


@mail.command("jobs")
@click.argument("wish", required=False, type=click.Choice(("never", "each", "digest")))
@json_option
@with_client
def mail_jobs(client: Client, wish: str | None, as_json: bool) -> None:
    """Get mails when your jobs end: never, for each job, or a digest. Without a word: show it."""
    place = at("me", "mail")
    told = client.put(place, {"jobs": wish}) if wish else client.get(place)
    if as_json:
        print_json(told)
        return
    click.echo(_SAID[told["jobs"]].format(minutes=f"{told['digest_minutes']:g}"))
    if not told["on"]:
        click.echo("This Labfleet sends no mails: its admin has not set mail up.")
    elif not told["address"]:
        click.echo("Your account has no confirmed address yet: set it on the page of your account.")
    else:
        click.echo(f"Mails go to {told['address']}.")


@mail.command("test")
@click.argument("address")
@click.option("--wait", default=60.0, show_default=True, help="How many seconds to wait for the mail server.")
@with_client
def mail_test(client: Client, address: str, wait: float) -> None:
    """Send a mail to ADDRESS to try it out; says what the mail server answers."""
    sent = client.post(at("mail", "test"), {"address": address})
    until = time.monotonic() + wait
    click.echo("The mail is written; waiting for the mail server …")
    while sent["state"] == "waiting" and not sent["last_error"] and time.monotonic() < until:
        time.sleep(LOOK_SECONDS)
        sent = client.get(at("mail", "messages", sent["id"]))
    if sent["state"] == "sent":
        click.echo(f"The server has taken the mail to {address}. If it does not arrive, look into the spam.")
        return
    if sent["last_error"]:
        raise Unavailable(
            f"The mail server does not take it: {sent['last_error']}",
            hint="Check webserver_mail_* and the server's own log; 'labfleet mail list' shows further tries.",
        )
    raise Unavailable(
        "Nobody has tried to send it yet.",
        hint="See that labfleet-mailer runs on the webserver: systemctl status labfleet-mailer.",
    )


@mail.command("status")
@json_option
@with_client
def mail_status(client: Client, as_json: bool) -> None:
    """Say whether mail is set up, and how mails go."""
    told = client.get(at("mail"))
    if as_json:
        print_json(told)
        return
    if not told["on"]:
        click.echo("Mail is off: webserver_mail_host names no server (docs/admin/mail.md).")
        return
    click.echo(f"Mails go to {told['server']} and come from {told['sender']}.")
    late = f", the oldest for {told['late_seconds']:.0f} s" if told["waiting"] else ""
    click.echo(f"{told['waiting']} wait{late}; {told['given_up']} were given up in the last day.")
    if told["last_error"]:
        click.echo(f"The last error: {told['last_error']}")


@mail.command("list")
@click.option("--waiting", is_flag=True, help="Only those that are not sent yet.")
@click.option("--limit", type=click.IntRange(1, 200), default=50, show_default=True, help="How many.")
@json_option
@with_client
def mail_list(client: Client, waiting: bool, limit: int, as_json: bool) -> None:
    """List the mails that were written last, and how they went."""
    query = {"waiting": "true" if waiting else None, "limit": limit}
    items = client.items(at("mail", "messages"), **query)
    if as_json:
        print_json(items)
        return
    rows = [
        (
            local_time(item["created_at"]),
            item["state"],
            item["address"],
            item["subject"],
            str(item["tries"]),
            item["last_error"] or "",
        )
        for item in items
    ]
    table(("written", "state", "to", "subject", "tries", "last error"), rows, "No mail was written yet.")


COMMANDS: list[click.Command] = [mail]
