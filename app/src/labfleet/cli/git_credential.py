"""`labfleet git-credential`: git asks it for name and token of the server that the user signed in to."""

from __future__ import annotations

import sys
from urllib.parse import urlsplit

import click

from labfleet.cli.client import Client
from labfleet.cli.credentials import load


@click.command("git-credential")
@click.argument("action", type=click.Choice(["get", "store", "erase"]))
def git_credential(action: str) -> None:
    """Tell git your name and token, as its credential helper.

    Once for each server: git config --global credential.URL.helper '!labfleet git-credential'
    """
    asked = dict(line.split("=", 1) for line in sys.stdin.read().splitlines() if "=" in line)
    if action != "get":  # 'labfleet login' keeps the token
        return
    known = load()
    server = urlsplit(known.url)
    if (asked.get("protocol"), asked.get("host")) != (server.scheme, server.netloc):
        return
    name = known.user
    if name is None:
        with Client(known.url, known.token, known.ca_file) as client:
            name = client.get("me")["name"]
    click.echo(f"username={name}\npassword={known.token}")


COMMANDS: list[click.Command] = [git_credential]
