"""`labfleet analyses`: saved settings of an analysis, to be run again and shared by their address."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any

import click

from labfleet.cli.client import Client, at
from labfleet.cli.options import submission_options
from labfleet.cli.output import json_option, local_time, print_json, table, with_client
from labfleet.cli.submit import given_values, tell_made, tell_plan, value_of, value_options, watch_option
from labfleet.errors import Invalid

NAMED = "ANALYSIS is an id, or the address that somebody gave you."


@click.group(invoke_without_command=True)
@click.pass_context
def analyses(context: click.Context) -> None:
    """Saved settings: a protocol with its values, to be run again and shared; lists yours."""
    if context.invoked_subcommand is None:
        context.invoke(list_analyses, protocol=None, as_json=False)


@analyses.command("list")
@click.option("--protocol", metavar="NAME", help="Of this protocol.")
@json_option
@with_client
def list_analyses(client: Client, protocol: str | None, as_json: bool) -> None:
    """List your saved settings, newest first."""
    answer = list(client.every("analyses", **({"protocol": protocol} if protocol else {})))
    if as_json:
        print_json(answer)
        return
    rows = [(x["id"], x["name"], x["protocol"], x["version"], local_time(x["created_at"])) for x in answer]
    empty = "No saved settings. Save some: labfleet analyses save NAME PROTOCOL -p NAME=VALUE…"
    table(("analysis", "name", "protocol", "version", "saved"), rows, empty)


@analyses.command("save")
@click.argument("name")
@click.argument("protocol")
@click.option("--version", help="A version of the protocol; the newest without it.")
@value_options
@click.option(
    "--sweep",
    "several",
    multiple=True,
    metavar="NAME=A,B,…",
    help="Several values of a parameter, or datasets of an input slot: each becomes a task; repeatable.",
)
@json_option
@with_client
def save_analysis(  # noqa: PLR0917 - click gives one argument for each option
    client: Client,
    name: str,
    protocol: str,
    version: str | None,
    assigned: tuple[str, ...],
    file: Any,
    inputs: tuple[str, ...],
    several: tuple[str, ...],
    as_json: bool,
) -> None:
    """Save settings of PROTOCOL under a NAME, without running them; prints their address.

    Whoever has the address and may see the protocol and its data may open it. A value of --sweep is read as
    a JSON list where it is one.
    """
    interface = client.get(at("protocols", protocol, "interface"), version=version)
    body = {"name": name, "protocol": protocol} | ({"version": version} if version else {})
    body |= given_values(client, interface, assigned, file, inputs)
    answer = client.post("analyses", body | {"sweep": dict(_several(item, interface) for item in several)})
    if as_json:
        print_json(answer)
    else:
        click.echo(answer["address"])


def _several(item: str, interface: Mapping[str, Any]) -> tuple[str, list[Any]]:
    name, separator, text = item.partition("=")
    if not separator or not name or not text:
        raise Invalid(f"--sweep {item}: no values.", hint="Write --sweep name=1,2,3.")
    is_input = name in interface["inputs"]
    known: Mapping[str, Any] = interface["parameters"].get("properties", {})
    if is_input and name in known:
        raise Invalid(
            f"--sweep {item}: '{name}' is a parameter and an input slot.",
            hint="Give several values of it on the page of a new job.",
        )
    return f"{'inputs' if is_input else 'parameters'}.{name}", _values(text, known.get(name, {}))


def _values(text: str, schema: Mapping[str, Any]) -> list[Any]:
    try:
        read = json.loads(text)
    except ValueError:
        read = None
    return read if isinstance(read, list) and read else [value_of(part, schema) for part in text.split(",")]


@analyses.command("show", epilog=NAMED)
@click.argument("analysis")
@json_option
@with_client
def show_analysis(client: Client, analysis: str, as_json: bool) -> None:
    """Show saved settings and their address."""
    found = client.get(_at(analysis))
    if as_json:
        print_json(found)
        return
    click.echo(f"{found['name']} of {found['owner']}, saved {local_time(found['created_at'])}")
    click.echo(found["address"])
    click.echo(f"{found['protocol']} {found['version']}")
    several = {name: f"each of {_written(values)}" for name, values in found["sweep"].items()}
    single = {
        f"{kind}.{name}": _written(value)
        for kind in ("parameters", "inputs")
        for name, value in found[kind].items()
    }
    for name, value in (single | several).items():
        click.echo(f"  {name}: {value}")


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@analyses.command("submit", epilog=NAMED)
@click.argument("analysis")
@value_options
@submission_options
@click.option("--dry-run", is_flag=True, help="Only tell what would run, and where.")
@watch_option
@json_option
@with_client
def submit_analysis(  # noqa: PLR0917 - click gives one argument for each option
    client: Client,
    analysis: str,
    assigned: tuple[str, ...],
    file: Any,
    inputs: tuple[str, ...],
    about: dict[str, Any],
    dry_run: bool,
    wait: bool,
    as_json: bool,
) -> None:
    """Submit a job of saved settings; what is said here takes the place of what was saved.

    The job is labelled with their name, unless --label says otherwise.
    """
    given: dict[str, Any] = {}
    if assigned or file or inputs:
        saved = client.get(_at(analysis))
        interface = client.get(at("protocols", saved["protocol"], "interface"), version=saved["version"])
        given = given_values(client, interface, assigned, file, inputs)
    query = {"dry_run": "true"} if dry_run else {}
    answer = client.post(_at(analysis, "submit"), given | about, key=str(uuid.uuid4()), **query)
    if dry_run:
        tell_plan(answer, as_json)
    else:
        tell_made(client, answer, wait, as_json)


@analyses.command("delete", epilog=NAMED)
@click.argument("analysis")
@with_client
def delete_analysis(client: Client, analysis: str) -> None:
    """Delete saved settings of yours. Jobs of them stay."""
    client.delete(_at(analysis))
    click.echo(f"Analysis {_id(analysis)}: deleted.")


def _at(analysis: str, *more: str) -> str:
    return at("analyses", _id(analysis), *more)


def _id(analysis: str) -> str:
    """The id in an address like `https://labfleet.example.org/analyses/ID`."""
    return analysis.rstrip("/").rpartition("/")[2]


COMMANDS: list[click.Command] = [analyses]
