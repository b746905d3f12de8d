"""`labfleet join`: the admin's verbs for machines that are to join the fleet by themselves."""

from __future__ import annotations

import sys

import click

from labfleet.cli.admin import transaction
from labfleet.config import web_settings


@click.group()
def join() -> None:
    """Machines that join the fleet by themselves (on the webserver; playbooks/invite.yml asks for it)."""


@join.command()
@click.argument("name")
@click.option(
    "--hours", type=click.FloatRange(min=0, min_open=True), help="Good for so long.  [default: [joins] hours]"
)
def invite(name: str, hours: float | None) -> None:
    """Let a machine join as NAME: keep the encrypted archive from standard input, print the token for it.

    The token is shown only now, and good once. An older invitation of NAME is taken back.
    """
    from labfleet.jobs import joining  # noqa: PLC0415

    settings = web_settings()
    archives = joining.Archives(settings.web.store)
    with transaction() as session:
        token = joining.invite(
            session,
            archives,
            name,
            sys.stdin.buffer,
            hours=settings.joins.hours if hours is None else hours,
            limit=settings.joins.max_bytes,
        )
    click.echo(token)


@join.command("list")
def invitations() -> None:
    """List the invitations that are open: worker, size in bytes, until when."""
    from labfleet.jobs import joining  # noqa: PLC0415

    with transaction() as session:
        for row in joining.waiting(session):
            click.echo(f"{row.worker}\t{row.size}\t{row.expires_at:%Y-%m-%d %H:%M} UTC")


@join.command()
@click.argument("name")
def withdraw(name: str) -> None:
    """Take back the open invitation of NAME."""
    from labfleet.jobs import joining  # noqa: PLC0415

    with transaction() as session:
        joining.withdraw(session, joining.Archives(web_settings().web.store), name)
    click.echo("withdrawn")


COMMANDS: list[click.Command] = [join]
