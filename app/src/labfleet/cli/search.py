"""`labfleet search`: protocols, datasets and results by words and terms."""

from __future__ import annotations

from typing import Any

import click

from labfleet.cli.client import Client
from labfleet.cli.output import json_option, local_time, print_json, table, with_client

KINDS = ("protocol", "dataset", "result")


@click.command()
@click.argument("words", nargs=-1)
@click.option("--kind", "kind", multiple=True, type=click.Choice(KINDS), help="Only these; repeatable.")
@click.option("--term", "term", multiple=True, help="With this term; repeatable.")
@click.option("--label", "label", multiple=True, help="With this label; repeatable.")
@click.option("--format", "format", help="Datasets whose names end so, and protocols that take them.")
@click.option("--protocol", help="Results that this protocol has made.")
@click.option("--licence", help="With this licence.")
@click.option("--owner", metavar="USER", help="Of this user.")
@click.option("--facets", is_flag=True, help="Count terms, labels, formats … instead of listing.")
@click.option("--limit", type=click.IntRange(1, 200), default=50, show_default=True, help="At most so many.")
@json_option
@with_client
def search(
    client: Client, words: tuple[str, ...], facets: bool, limit: int, as_json: bool, **wanted: Any
) -> None:
    """Find protocols, datasets and results that you may see.

    Each of the WORDS must be there, or one that begins so: in the name, in what is told about it, or among
    labels and terms. A result is also found by the words of its protocols and of its data.
    """
    query = {key: ",".join(given) if isinstance(given, tuple) else given for key, given in wanted.items()}
    query = {"text": " ".join(words), **query}
    asked = {key: given for key, given in query.items() if given}
    if facets:
        _show_facets(client.get("search/facets", **asked), as_json)
        return
    page = client.get("search", limit=limit, **asked)
    if as_json:
        print_json(page)
        return
    rows = [
        (x["id"], x["kind"], x["name"], x["owner"] or "the lab", _told(x), local_time(x["created_at"]))
        for x in page["items"]
    ]
    table(("id", "kind", "name", "owner", "labels and terms", "since"), rows, "Nothing was found.")
    if page["next"]:
        click.echo(f"There is more: --limit, or more words than {' '.join(words) or 'none'}.", err=True)


def _told(found: dict[str, Any]) -> str:
    return ", ".join([*found["labels"], *found["terms"]])


def _show_facets(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    rows = [(each["value"], facet, each["count"]) for facet, values in found.items() for each in values]
    table(("value", "", "found"), rows, "Nothing was found.")


COMMANDS: list[click.Command] = [search]
