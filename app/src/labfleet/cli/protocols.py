"""`labfleet protocols`: which there are, what they want, and the verbs for your own."""

from __future__ import annotations

import io
import json
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import click

from labfleet.cli.client import Client, at
from labfleet.cli.output import json_option, local_time, print_json, table, with_client
from labfleet.cli.r_lock import lock_r
from labfleet.cli.sources import (
    EXIT_FAILED,
    POLL_SECONDS,
    credentials_options,
    finish,
    given_credentials,
)
from labfleet.cli.transfer import bar
from labfleet.protocols.tree import entries_of


@click.group(invoke_without_command=True)
@click.pass_context
def protocols(context: click.Context) -> None:
    """The protocols of the server; lists them."""
    if context.invoked_subcommand is None:
        context.invoke(list_protocols, text=None, as_json=False)


@protocols.command("list")
@click.option("--text", metavar="WORDS", help="With these words in name, title or description.")
@json_option
@with_client
def list_protocols(client: Client, text: str | None, as_json: bool) -> None:
    """List the protocols that you may use."""
    answer = client.items("protocols", text=text)
    if as_json:
        print_json(answer)
        return
    rows = [
        (item["name"], _newest(item), item["owner"] or "the lab", item["visibility"], item["title"])
        for item in answer
    ]
    nothing = (
        "No protocol has these words." if text else "No protocols. Bring one: labfleet protocols push DIR"
    )
    table(("protocol", "newest", "owner", "for", "title"), rows, nothing)


def _newest(item: dict[str, Any]) -> str:
    versions = item.get("versions") or []
    first = versions[0] if versions else item.get("version") or ""
    return str(first["version"] if isinstance(first, dict) else first)


@protocols.command("show")
@click.argument("name")
@click.option("--version", help="A version; the newest without it.")
@json_option
@with_client
def show_protocol(client: Client, name: str, version: str | None, as_json: bool) -> None:
    """Show the parameters, inputs and outputs of protocol NAME."""
    interface = client.get(at("protocols", name, "interface"), version=version)
    if as_json:
        print_json(interface)
        return
    click.echo(
        f"{interface['name']} {interface['version']}: {interface['title']}\n\n{interface['description']}\n"
    )
    _show_parameters(interface["parameters"])
    slots = [
        (slot, "optional" if item["optional"] else "required", ", ".join(item["formats"]), item["title"])
        for slot, item in interface["inputs"].items()
    ]
    table(("input", "", "formats", "title"), slots, "no inputs")
    click.echo()
    outputs = [
        (key, item["kind"], item["path"], item["title"], _units(item))
        for key, item in interface["outputs"].items()
    ]
    table(("output", "kind", "file", "title", ""), outputs, "no outputs")


def _units(output: dict[str, Any]) -> str:
    return ", ".join(f"{column} in {unit}" for column, unit in output.get("units", {}).items())


def _show_parameters(schema: dict[str, Any]) -> None:
    required = set(schema.get("required", []))
    rows = []
    for name, item in schema.get("properties", {}).items():
        kind = "|".join(map(str, item["enum"])) if "enum" in item else item.get("type", "")
        kind = f"{kind}, in {item['unit']}" if "unit" in item else kind
        default = json.dumps(item["default"]) if "default" in item else "required" if name in required else ""
        rows.append((name, kind, default, item.get("description") or item.get("title") or ""))
    table(("parameter", "type", "default", ""), rows, "no parameters")
    click.echo()


@protocols.command("check")
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@json_option
@with_client
def check_protocol(client: Client, directory: Path, as_json: bool) -> None:
    """Have the server check the protocol in DIRECTORY. Exit code 1 if it has faults."""
    report = client.check(_packed(directory))
    if as_json:
        print_json(report)
    elif report["ok"]:
        found = report["interface"]
        click.echo(f"{found['name']} {found['version']}: {report['files']} files, no fault found")
    for problem in [] if as_json else report["problems"]:
        where = problem["file"] if problem["line"] is None else f"{problem['file']}:{problem['line']}"
        click.echo(f"{where}: {problem['message']}\n    {problem['hint']}", err=True)
    if not report["ok"]:
        raise click.exceptions.Exit(1)


@protocols.command("push")
@click.argument("source", metavar="DIRECTORY|ARCHIVE", type=click.Path(exists=True, path_type=Path))
@json_option
@with_client
def push_protocol(client: Client, source: Path, as_json: bool) -> None:
    """Keep the protocol in DIRECTORY (or a tar or tar.gz) on the server.

    It becomes a protocol of yours that only you see, or a new version of one of yours: its protocol.yml says
    name and version. The server checks it first, and keeps nothing of it where it finds a fault.
    """
    content = _packed(source) if source.is_dir() else source.read_bytes()
    with bar(f"push {source.name or source}", len(content)) as tell:
        kept = client.send_protocol(content, tell)
    if as_json:
        print_json(kept)
        return
    word = "kept" if kept["created"] else "unchanged"
    click.echo(f"{word} {kept['protocol']} {kept['version']} {kept['commit']}")


@protocols.command("import")
@click.argument("url")
@click.option("--branch", help="The repository's own default branch without it.")
@click.option("--no-tags", is_flag=True, help="Only the branch, no earlier versions by their tags.")
@click.option("--rewrite", is_flag=True, help="Also where its history was rewritten since the last import.")
@credentials_options
@click.option("--no-wait", is_flag=True, help="Do not wait for its end.")
@json_option
@with_client
def import_protocol(  # noqa: PLR0917 - click gives one argument for each option
    client: Client,
    url: str,
    branch: str | None,
    no_tags: bool,
    rewrite: bool,
    credentials: Path | None,
    ask: bool,
    no_wait: bool,
    as_json: bool,
) -> None:
    """Import a protocol from the git repository at URL (https); prints its name.

    Its newest commit becomes a version, and each commit with a tag that is called as its version. It is a
    protocol of yours, as if you had pushed it. The same URL again brings what is new since. Credentials are
    user (often optional) and password, which may be an access token; they are kept for the next time.
    Exit code 3: it failed, 6: it was cancelled.
    """
    given = given_credentials(client, "git", credentials, ask)
    body: dict[str, Any] = {"url": url, "tags": not no_tags, "rewrite": rewrite}
    body |= {"branch": branch} if branch else {}
    body |= {"credentials": given} if given else {}
    fetch = client.post("protocols/import", body)
    finish(client, fetch, fetch["source"], no_wait=no_wait, as_json=as_json)


@protocols.command("test")
@click.argument("name")
@click.option("--version", help="A version; the newest without it.")
@click.option("--no-wait", is_flag=True, help="Do not wait for its end.")
@json_option
@with_client
def try_version(client: Client, name: str, version: str | None, no_wait: bool, as_json: bool) -> None:
    """Try a version of protocol NAME as its protocol.yml says (self_test), by a job of yours.

    Exit code 0: it passed, 3: it failed; the lines say what did not come as it should.
    """
    told = client.post(at("protocols", name, "self-tests"), {"version": version} if version else {})
    if not as_json:
        click.echo(f"job {told['job']}", err=True)
    while told["state"] == "running" and not no_wait:
        time.sleep(POLL_SECONDS)
        found = client.items(at("protocols", name, "self-tests"))
        told = next((each for each in found if each["commit"] == told["commit"]), told)
    if as_json:
        print_json(told)
    else:
        click.echo(f"{name} {told['version']}: {told['state']}")
        for line in told["lines"]:
            click.echo(f"  {line}", err=True)
    sys.exit(EXIT_FAILED if told["state"] == "failed" else 0)


@protocols.command("versions")
@click.argument("name")
@json_option
@with_client
def list_versions(client: Client, name: str, as_json: bool) -> None:
    """List the versions of protocol NAME, the newest first."""
    answer = client.items(at("protocols", name, "versions"))
    if as_json:
        print_json(answer)
        return
    tested = {each["commit"]: each for each in client.items(at("protocols", name, "self-tests"))}
    rows = [
        (item["version"], item["commit"], local_time(item["created_at"]), _fared(tested.get(item["commit"])))
        for item in answer
    ]
    table(("version", "commit", "kept", "self-test"), rows, "no versions")


def _fared(test: dict[str, Any] | None) -> str:
    return "" if test is None else " ".join([test["state"], *test["lines"][:1]])


@protocols.command("diff")
@click.argument("name")
@click.argument("base", metavar="A")
@click.argument("head", metavar="[B]", required=False)
@json_option
@with_client
def compare_versions(client: Client, name: str, base: str, head: str | None, as_json: bool) -> None:
    """Compare versions A and B of protocol NAME (names or commits); the newest without B."""
    found = client.get(at("protocols", name, "compare"), base=base, head=head)
    if as_json:
        print_json(found)
        return
    click.echo(f"{name}: {found['base']['version']} → {found['head']['version']}\n")
    changes = [(item["path"], _value(item["before"]), _value(item["after"])) for item in found["interface"]]
    table(("interface", "before", "after"), changes, "The interface is the same.")
    click.echo()
    files = [(item["path"], item["status"], _lines(item)) for item in found["files"]]
    table(("file", "", "lines"), files, "The files are the same.")
    for item in found["files"]:
        if item["patch"]:
            click.echo(f"\n{item['patch'].rstrip()}")


def _value(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _lines(item: dict[str, Any]) -> str:
    return "not text" if item["added"] is None else f"+{item['added']} -{item['removed']}"


_USERS = click.option("--user", "users", metavar="NAME", multiple=True, help="A user; repeatable.")
_GROUPS = click.option("--group", "groups", metavar="NAME", multiple=True, help="A group; repeatable.")


@protocols.command("share")
@click.argument("name")
@_USERS
@_GROUPS
@json_option
@with_client
def share_protocol(
    client: Client, name: str, users: tuple[str, ...], groups: tuple[str, ...], as_json: bool
) -> None:
    """Let users and groups see and use your protocol NAME."""
    _shares(client, name, "share", {"users": users, "groups": groups}, as_json)


@protocols.command("unshare")
@click.argument("name")
@_USERS
@_GROUPS
@json_option
@with_client
def unshare_protocol(
    client: Client, name: str, users: tuple[str, ...], groups: tuple[str, ...], as_json: bool
) -> None:
    """Take your protocol NAME back from users and groups.

    Jobs that they have submitted go on, and stay theirs to read.
    """
    _shares(client, name, "unshare", {"users": users, "groups": groups}, as_json)


def _shares(client: Client, name: str, verb: str, whom: dict[str, tuple[str, ...]], as_json: bool) -> None:
    if not any(whom.values()):
        raise click.UsageError("Say with whom: --user NAME or --group NAME.")
    _tell(client.post(at("protocols", name, verb), whom), as_json)


@protocols.command("publish")
@click.argument("name")
@json_option
@with_client
def publish_protocol(client: Client, name: str, as_json: bool) -> None:
    """Let everybody see and use your protocol NAME."""
    _tell(client.post(at("protocols", name, "publish")), as_json)


@protocols.command("withdraw")
@click.argument("name")
@json_option
@with_client
def withdraw_protocol(client: Client, name: str, as_json: bool) -> None:
    """Take your protocol NAME back from everybody but those it is shared with."""
    _tell(client.post(at("protocols", name, "withdraw")), as_json)


@protocols.command("transfer")
@click.argument("name")
@click.argument("user")
@json_option
@with_client
def transfer_protocol(client: Client, name: str, user: str, as_json: bool) -> None:
    """Give your protocol NAME to USER, who decides about it from then on."""
    _tell(client.post(at("protocols", name, "transfer"), {"user": user}), as_json)


@protocols.command("delete")
@click.argument("name")
@with_client
def delete_protocol(client: Client, name: str) -> None:
    """Delete your protocol NAME with all versions; refused while results point to one of them."""
    client.delete(at("protocols", name))
    click.echo(f"Protocol {name}: deleted.")


protocols.add_command(lock_r)


def _tell(protocol: dict[str, Any], as_json: bool) -> None:
    """Whose the protocol is, and for whom."""
    if as_json:
        print_json(protocol)
        return
    whom = protocol["shared_with"] or {"users": [], "groups": []}
    names = [*whom["users"], *(f"group {group}" for group in whom["groups"])]
    shared = f", shared with {', '.join(names)}" if names else ""
    owner = protocol["owner"] or "the lab"
    click.echo(f"Protocol {protocol['name']} of {owner}: {protocol['visibility']}{shared}.")


def _packed(directory: Path) -> bytes:
    """The directory as a tar: the files that a protocol would keep, with no trace of who packed it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for entry in entries_of(directory):
            info = tarfile.TarInfo(str(entry.path))
            info.mode = 0o755 if entry.executable else 0o644
            content = entry.content()
            if entry.mode == "120000":
                info.type, info.linkname = tarfile.SYMTYPE, content.decode()
            else:
                info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


COMMANDS: list[click.Command] = [protocols]
