"""`labfleet audit`: who did what, for admins."""

from __future__ import annotations

from itertools import islice
from typing import Any

import click

from labfleet.cli.client import Client
from labfleet.cli.output import json_option, local_time, print_json, table, with_client


@click.command()
@click.option("--user", help="Only what this user did, or what was done to it.")
@click.option("--kind", help="Only one kind, such as 'token', or one action, such as 'token.made'.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="How many entries.")
@json_option
@with_client
def audit(client: Client, user: str | None, kind: str | None, limit: int, as_json: bool) -> None:
    """Show who did what to accounts, rights, quotas and workers, the newest first. For admins."""
    items = list(islice(client.every("audit", user=user, kind=kind), limit))
    if as_json:
        print_json(items)
        return
    rows = [
        (
            local_time(item["at"]),
            item["actor"],
            item["action"],
            item["subject"],
            _more(item["detail"]),
            _origin(item),
        )
        for item in items
    ]
    table(("when", "who", "did", "to", "more", "from"), rows, "Nothing of that kind is in the log.")


def _more(detail: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in detail.items() if value is not None)


def _origin(item: dict[str, Any]) -> str:
    return f"{item['via']} {item['address']}".strip()


COMMANDS: list[click.Command] = [audit]
