"""`labfleet invitation`: accounts for people who have none, for admins."""

from __future__ import annotations

import click

from labfleet.cli.client import Client, at
from labfleet.cli.output import json_option, local_time, print_json, table, with_client


@click.group()
def invitation() -> None:
    """Invite people by mail, who then make their account themselves. For admins."""


@invitation.command("add")
@click.argument("address")
@click.option("--name", default="", help="Their name on this Labfleet.  [default: they choose]")
@click.option("--admin", is_flag=True, help="They become an admin.")
@with_client
def invitation_add(client: Client, address: str, name: str, admin: bool) -> None:
    """Send an invitation to ADDRESS."""
    made = client.post(at("invitations"), {"mail": address, "name": name, "is_admin": admin})
    click.echo(f"{made['mail']} is invited until {local_time(made['expires_at'])}.")


@invitation.command("list")
@json_option
@with_client
def invitation_list(client: Client, as_json: bool) -> None:
    """List the invitations that nobody has followed yet."""
    items = client.items(at("invitations"))
    if as_json:
        print_json(items)
        return
    rows = [
        (item["id"], item["mail"], item["name"] or "", item["made_by"], local_time(item["expires_at"]))
        for item in items
    ]
    table(("invitation", "address", "name", "by", "until"), rows, "Nobody is invited.")


@invitation.command("resend")
@click.argument("which", metavar="INVITATION")
@with_client
def invitation_resend(client: Client, which: str) -> None:
    """Send INVITATION again, with another link; the one before is good no more."""
    made = client.post(at("invitations", which, "resend"))
    click.echo(f"{made['mail']} is invited until {local_time(made['expires_at'])}.")


@invitation.command("withdraw")
@click.argument("which", metavar="INVITATION")
@with_client
def invitation_withdraw(client: Client, which: str) -> None:
    """Take INVITATION back: its link is good no more."""
    client.delete(at("invitations", which))
    click.echo("It is taken back.")


COMMANDS: list[click.Command] = [invitation]
