"""`labfleet webhook-secret`: what a receiver needs to know who calls."""

from __future__ import annotations

import click

from labfleet.cli.client import Client
from labfleet.cli.output import with_client


@click.command("webhook-secret")
@with_client
def webhook_secret(client: Client) -> None:
    """Print the secret with which calls of your webhooks are signed."""
    click.echo(client.get("me/webhook-secret")["secret"])


COMMANDS: list[click.Command] = [webhook_secret]
