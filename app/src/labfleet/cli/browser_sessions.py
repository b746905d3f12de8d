"""`labfleet session`: the browsers in which one is signed in."""

from __future__ import annotations

import click

from labfleet.cli.client import Client, at
from labfleet.cli.output import json_option, local_time, print_json, table, with_client
from labfleet.errors import Invalid


@click.group()
def session() -> None:
    """The browsers in which you are signed in: list them, sign them out."""


@session.command("list")
@json_option
@with_client
def session_list(client: Client, as_json: bool) -> None:
    """List the browsers in which you are signed in, the one that was used last first."""
    items = client.items(at("me", "sessions"))
    if as_json:
        print_json(items)
        return
    rows = [
        (
            item["id"],
            item["device"],
            item["address"],
            local_time(item["last_seen_at"]),
            local_time(item["created_at"]),
        )
        for item in items
    ]
    table(("session", "browser", "from", "last seen", "signed in"), rows, "You are signed in nowhere.")


@session.command("end")
@click.argument("which", metavar="SESSION", required=False)
@click.option("--all", "everywhere", is_flag=True, help="Sign all browsers out.")
@with_client
def session_end(client: Client, which: str | None, everywhere: bool) -> None:
    """Sign the browser of SESSION out. Tokens, such as that of this command line, stay good."""
    if (which is None) == (not everywhere):
        raise Invalid("A session or --all.", hint="'labfleet session list' shows the sessions.")
    client.delete(at("me", "sessions") if which is None else at("me", "sessions", which))
    click.echo("All browsers are signed out." if which is None else "That browser is signed out.")


COMMANDS: list[click.Command] = [session]
