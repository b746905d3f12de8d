"""`labfleet sources`: where data comes from, and fetching it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import click
import yaml

from labfleet.cli.client import Client, at
from labfleet.cli.output import (
    console,
    json_option,
    local_time,
    number_of,
    print_json,
    size_text,
    state_text,
    table,
    time_text,
    with_client,
)
from labfleet.errors import Invalid, NotFound

OPEN = ("queued", "running")
POLL_SECONDS = 0.5
EXIT_FAILED, EXIT_CANCELLED = 3, 6
FORMATS = ("auto", "csv", "excel", "json", "parquet", "file", "protocol")
NAMED = "A source is named by its name or its id."


@click.group(invoke_without_command=True)
@click.pass_context
def sources(context: click.Context) -> None:
    """Where data comes from, fetched on request; lists them."""
    if context.invoked_subcommand is None:
        context.invoke(list_sources, as_json=False)


@sources.command("list")
@json_option
@with_client
def list_sources(client: Client, as_json: bool) -> None:
    """List the sources that you may see and fetch."""
    answer = client.items("sources")
    if as_json:
        print_json(answer)
        return
    rows = [
        (
            x["id"],
            x["name"],
            x["owner"],
            x["definition"]["handler"],
            state_text(x["fetch"]["state"]) if x["fetch"] else "never fetched",
            local_time(x["fetch"] and x["fetch"]["finished_at"]),
        )
        for x in answer
    ]
    empty = "No sources. Make one: labfleet sources add NAME HANDLER KEY=VALUE…"
    table(("source", "name", "owner", "handler", "last fetch", "ended"), rows, empty)


@sources.command("handlers")
@json_option
@with_client
def list_handlers(client: Client, as_json: bool) -> None:
    """List the ways to fetch, and what each one takes."""
    answer = client.get("sources/handlers")
    if as_json:
        print_json(answer)
        return
    out = console()
    for handler in answer["items"]:
        out.print(f"{handler['name']}: {handler['title']}", style="bold", markup=False)
        out.print(f"  {handler['description']}", markup=False)
        for name, what in handler["parameters"].get("properties", {}).items():
            need = "" if name in handler["parameters"].get("required", []) else " (optional)"
            words = ". ".join(filter(None, [what.get("title"), what.get("description")]))
            out.print(f"  {name}{need}: {words}", markup=False)
        if names := ", ".join(handler["credentials"].get("properties", {})):
            out.print(f"  credentials (optional): {names}", markup=False)
    if answer["folders"]:
        out.print(f"\nFolders that are open: {', '.join(answer['folders'])}", markup=False)


def credentials_options(function: Callable[..., None]) -> Callable[..., None]:
    """The options by which credentials are given; `given_credentials` reads them."""
    ask = click.option("--ask-credentials", "ask", is_flag=True, help="Ask for them, without showing them.")
    read = click.option(
        "--credentials",
        type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
        help="A YAML or JSON file with the handler's credentials (NAME: VALUE), - for standard input.",
    )
    return read(ask(function))


@sources.command("add")
@click.argument("name")
@click.argument("handler")
@click.argument("parameters", nargs=-1, metavar="KEY=VALUE…")
@click.option("--description", default="", help="What it is, for people.")
@click.option("--format", "form", type=click.Choice(FORMATS), help="What comes; 'file' keeps it as it is.")
@click.option("--sheet", help="Which sheet of a workbook; the first without it.")
@click.option(
    "--transform",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A YAML or JSON file with the list of steps.",
)
@click.option("--lifetime", type=click.IntRange(0), help="For how many seconds what was fetched is good.")
@credentials_options
@json_option
@with_client
def add_source(  # noqa: PLR0917 - click gives one argument for each option
    client: Client,
    name: str,
    handler: str,
    parameters: tuple[str, ...],
    description: str,
    form: str | None,
    sheet: str | None,
    transform: Path | None,
    lifetime: int | None,
    credentials: Path | None,
    ask: bool,
    as_json: bool,
) -> None:
    """Make the source NAME, which is fetched by HANDLER with these parameters; prints its id.

    For example: labfleet sources add cells http url=https://example.org/cells.csv
    """
    given = given_credentials(client, handler, credentials, ask)
    definition: dict[str, Any] = {"handler": handler, "parameters": dict(map(_pair, parameters))}
    definition |= {"format": form} if form else {}
    definition |= {"sheet": sheet} if sheet else {}
    definition |= {"transform": _steps(transform)} if transform else {}
    body = {"name": name, "description": description, "definition": definition, "lifetime_seconds": lifetime}
    body |= {"credentials": given} if given else {}
    answer = client.post("sources", body)
    if as_json:
        print_json(answer)
    else:
        click.echo(answer["id"])


def _pair(text: str) -> tuple[str, Any]:
    """`url=https://…`; what reads as a number, as true or false, or as a JSON list is one."""
    name, equals, value = text.partition("=")
    if not equals:
        raise click.UsageError(f"'{text}' is not KEY=VALUE.")
    try:
        read = json.loads(value)
    except ValueError:
        read = value
    return name, value if read is None else read


def given_credentials(client: Client, handler: str, path: Path | None, ask: bool) -> dict[str, str]:
    """The credentials from a file, or as they are typed."""
    if path and ask:
        raise click.UsageError("Either --credentials or --ask-credentials.")
    if path:
        return _read_credentials(path)
    return _asked_credentials(client, handler) if ask else {}


def _read_credentials(path: Path) -> dict[str, str]:
    with click.open_file(str(path), encoding="utf-8") as file:
        try:
            found = yaml.safe_load(file)
        except (yaml.YAMLError, UnicodeDecodeError):  # what it says of the line might be the secret
            found = None
    if not isinstance(found, dict) or not found or not all(isinstance(x, str) for x in found.values()):
        raise Invalid(
            f"{path} has no credentials that can be read.",
            hint="Write one on a line: NAME, a colon, and the value in quotation marks. "
            "'labfleet sources handlers' names them.",
        )
    return {str(name): value for name, value in found.items()}


def _asked_credentials(client: Client, handler: str) -> dict[str, str]:
    known = {each["name"]: each for each in client.get("sources/handlers")["items"]}
    if handler not in known:
        raise NotFound(f"There is no handler '{handler}'.", hint="'labfleet sources handlers' lists them.")
    wanted = known[handler]["credentials"].get("properties", {})
    if not wanted:
        raise Invalid(f"The handler '{handler}' takes no credentials.", hint="Leave --ask-credentials out.")
    typed = {
        name: click.prompt(
            f"{what.get('title', name)} (empty for none)",
            default="",
            show_default=False,
            hide_input=what.get("format") == "password",
            err=True,
        )
        for name, what in wanted.items()
    }
    return {name: value for name, value in typed.items() if value}


def _steps(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise Invalid(f"{path}: {error}", hint="Write a list of steps as YAML or JSON.") from None


@sources.command("show", epilog=NAMED)
@click.argument("source")
@json_option
@with_client
def show_source(client: Client, source: str, as_json: bool) -> None:
    """Show SOURCE: what it says, and its last fetches."""
    found = _found(client, source)
    last = client.items(at("sources", found["id"], "fetches"))
    if as_json:
        print_json({**found, "fetches": last})
        return
    click.echo(f"{found['name']} of {found['owner']}, {found['visibility']}")
    if found["description"]:
        click.echo(found["description"])
    click.echo(yaml.safe_dump(found["definition"], sort_keys=False, allow_unicode=True).rstrip())
    if found["credentials"]:
        click.echo(
            f"credentials: {', '.join(found['credentials'])}, given {local_time(found['credentials_at'])}"
        )
    click.echo(f"good for: {time_text(found['lifetime_seconds'])}")
    click.echo(f"dataset: {found['dataset'] or 'none yet'}")
    click.echo()
    rows = [
        (
            state_text(x["state"]),
            local_time(x["created_at"]),
            x["asked_by"],
            x["rows"],
            x["bytes"] and size_text(x["bytes"]),
            x["message"] or x["progress_text"],
        )
        for x in last
    ]
    empty = "It was never fetched: labfleet sources fetch NAME"
    table(("fetch", "asked", "by", "rows", "size", "message"), rows, empty)


@sources.command("fetch", epilog=NAMED)
@click.argument("source")
@click.option("--anew", is_flag=True, help="Also if what was fetched last is still good.")
@click.option("--no-wait", is_flag=True, help="Do not wait for its end.")
@json_option
@with_client
def fetch_source(client: Client, source: str, anew: bool, no_wait: bool, as_json: bool) -> None:
    """Fetch SOURCE and follow it; prints the dataset's id, or the protocol's name.

    What is still good is not fetched again. Exit code 3: it failed, 6: it was cancelled.
    """
    found = _found(client, source)
    fetch = client.post(at("sources", found["id"], "fetches"), {"anew": anew})
    finish(client, fetch, repr(found["name"]), no_wait=no_wait, as_json=as_json)


def finish(client: Client, fetch: dict[str, Any], named: str, *, no_wait: bool, as_json: bool) -> NoReturn:
    """Follow a fetch of the source `named` to its end, unless nobody waits; tell what came, and exit."""
    if not no_wait:
        fetch = _followed(client, fetch, quiet=as_json)
    if as_json:
        print_json(fetch)
    elif fetch["state"] == "success":
        click.echo(fetch["dataset"] or fetch["protocol"])
        click.echo(_told(fetch), err=True)
    elif fetch["state"] in OPEN:
        click.echo(f"{fetch['state']}: labfleet sources show {named}", err=True)
    else:
        click.echo(f"{fetch['state']}. {fetch['message']}".rstrip(), err=True)
    sys.exit({"failed": EXIT_FAILED, "cancelled": EXIT_CANCELLED}.get(fetch["state"], 0))


def _told(fetch: dict[str, Any]) -> str:
    rows = f"{number_of(fetch['rows'], 'row')}, " if fetch["rows"] is not None else ""
    new = "new" if fetch["changed"] else "as it was before"
    if fetch["protocol"]:
        new = f"new: {fetch['progress_text']}" if fetch["changed"] else "nothing new"
    notes = f" {fetch['message']}" if fetch["message"] else ""
    return f"{rows}{size_text(fetch['bytes'])}, {new}.{notes}"


def _followed(client: Client, fetch: dict[str, Any], *, quiet: bool) -> dict[str, Any]:
    last = ""
    while fetch["state"] in OPEN:
        line = (
            f"{fetch['state']} {fetch['progress']:.0%} {fetch['progress_text'] or fetch['message']}".rstrip()
        )
        if line != last and not quiet:
            click.echo(line, err=True)
        last = line
        time.sleep(POLL_SECONDS)
        fetch = client.get(at("sources", fetch["source"], "fetches", fetch["id"]))
    return fetch


@sources.command("credentials", epilog=NAMED)
@click.argument("source")
@click.option(
    "--from",
    "path",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
    help="A YAML or JSON file with them (NAME: VALUE), - for standard input; asks for them without it.",
)
@click.option("--remove", is_flag=True, help="Take them away.")
@with_client
def set_credentials(client: Client, source: str, path: Path | None, remove: bool) -> None:
    """Give your SOURCE other credentials: all of them at once. They are never shown again."""
    if path and remove:
        raise click.UsageError("Either --from or --remove.")
    found = _found(client, source)
    given = {} if remove else given_credentials(client, found["definition"]["handler"], path, path is None)
    if not given and not remove:
        raise click.UsageError("None were given. To take them away: --remove")
    answer = client.patch(at("sources", found["id"]), {"credentials": given})
    click.echo(f"Source {found['name']}: credentials {', '.join(answer['credentials']) or 'removed'}.")


@sources.command("cancel", epilog=NAMED)
@click.argument("source")
@with_client
def cancel_fetch(client: Client, source: str) -> None:
    """End the fetch of SOURCE that is under way."""
    found = _found(client, source)
    fetch = found["fetch"]
    if not fetch or fetch["state"] not in OPEN:
        raise NotFound(f"No fetch of '{found['name']}' is under way.", hint="")
    client.post(at("sources", found["id"], "fetches", fetch["id"], "cancel"))
    click.echo(f"Source {found['name']}: cancelled.")


@sources.command("delete", epilog=NAMED)
@click.argument("source")
@with_client
def delete_source(client: Client, source: str) -> None:
    """Delete SOURCE. What was made of it stays."""
    found = _found(client, source)
    client.delete(at("sources", found["id"]))
    click.echo(f"Source {found['name']}: deleted.")


def _whom(function: Callable[..., None]) -> Callable[..., None]:
    everybody = click.option("--everybody", is_flag=True, help="Everybody in the lab.")
    groups = click.option("--group", "groups", metavar="NAME", multiple=True, help="A group; repeatable.")
    users = click.option("--user", "users", metavar="NAME", multiple=True, help="A user; repeatable.")
    return users(groups(everybody(click.argument("source")(function))))


@sources.command("share", epilog=NAMED)
@_whom
@with_client
def share_source(
    client: Client, source: str, users: tuple[str, ...], groups: tuple[str, ...], everybody: bool
) -> None:
    """Let users, groups or everybody see and fetch your SOURCE, and see what comes of it."""
    _share(client, source, ("share", "publish"), {"users": users, "groups": groups}, everybody)


@sources.command("unshare", epilog=NAMED)
@_whom
@with_client
def unshare_source(
    client: Client, source: str, users: tuple[str, ...], groups: tuple[str, ...], everybody: bool
) -> None:
    """Take your SOURCE back."""
    _share(client, source, ("unshare", "withdraw"), {"users": users, "groups": groups}, everybody)


def _share(
    client: Client, source: str, verbs: tuple[str, str], whom: dict[str, tuple[str, ...]], everybody: bool
) -> None:
    if not (any(whom.values()) or everybody):
        raise click.UsageError("Say with whom: --user NAME, --group NAME or --everybody.")
    found = _found(client, source)
    answer = client.post(at("sources", found["id"], verbs[0]), whom)
    if everybody:
        answer = client.post(at("sources", found["id"], verbs[1]))
    names = ", ".join([*answer["shared_with"]["users"], *answer["shared_with"]["groups"]])
    click.echo(f"Source {found['name']}: {answer['visibility']}{f', shared with {names}' if names else ''}.")


def _found(client: Client, named: str) -> dict[str, Any]:
    """The source of this name or id; of several of one name, your own."""
    found = [each for each in client.items("sources") if named in {each["id"], each["name"]}]
    if not found:
        raise NotFound(f"There is no source '{named}'.", hint="'labfleet sources' lists those you may see.")
    return found[0]


COMMANDS: list[click.Command] = [sources]
