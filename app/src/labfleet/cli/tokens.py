"""`labfleet tokens`: one's own API tokens."""

from __future__ import annotations

import click

from labfleet.cli.client import Client, at
from labfleet.cli.options import scope_option
from labfleet.cli.output import json_option, local_time, print_json, table, with_client

DAYS = 90.0


@click.group()
def tokens() -> None:
    """Your API tokens, for programs: list, make and revoke them."""


@tokens.command("list")
@json_option
@with_client
def tokens_list(client: Client, as_json: bool) -> None:
    """List your tokens that are good, and what each may do."""
    items = client.items(at("me", "tokens"))
    if as_json:
        print_json(items)
        return
    rows = [
        (
            item["id"],
            item["name"],
            ", ".join(item["scopes"]),
            local_time(item["last_used_at"]) or "never",
            local_time(item["expires_at"]) or "for ever",
        )
        for item in items
    ]
    table(("token", "name", "may", "used", "good until"), rows, "You have no tokens.")


@tokens.command("make")
@click.argument("name")
@scope_option
@click.option("--days", type=float, default=DAYS, show_default=True, help="How long it is good.")
@with_client
def tokens_make(client: Client, name: str, scopes: tuple[str, ...], days: float) -> None:
    """Make a token called NAME and print it; it is shown only now. It may do no more than this one."""
    body = {"name": name, "days": days, "scopes": list(scopes) or None}
    click.echo(client.post(at("me", "tokens"), {key: value for key, value in body.items() if value})["token"])


@tokens.command("revoke")
@click.argument("which", metavar="TOKEN")
@with_client
def tokens_revoke(client: Client, which: str) -> None:
    """Revoke TOKEN, by its id: programs that use it are refused from now on."""
    client.delete(at("me", "tokens", which))
    click.echo("That token is good no more.")


COMMANDS: list[click.Command] = [tokens]
