"""`labfleet protocols datasets workers`: what there is."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import click

from labfleet.cli.client import Client, at
from labfleet.cli.download import fetch_dataset, safe_name
from labfleet.cli.output import (
    json_option,
    local_time,
    print_json,
    size_text,
    table,
    with_client,
)
from labfleet.cli.transfer import upload_with_bar
from labfleet.protocols.tree import entries_of


@click.group(invoke_without_command=True)
@click.pass_context
def protocols(context: click.Context) -> None:
    """The protocols of the server; lists them."""
    if context.invoked_subcommand is None:
        context.invoke(list_protocols, as_json=False)


@protocols.command("list")
@json_option
@with_client
def list_protocols(client: Client, as_json: bool) -> None:
    """List the protocols."""
    answer = client.items("protocols")
    if as_json:
        print_json(answer)
        return
    rows = [(item["name"], _newest(item), item["title"]) for item in answer]
    table(
        ("protocol", "newest", "title"),
        rows,
        "No protocols. An admin adds them: labfleet protocol import DIR",
    )


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
    outputs = [(key, item["kind"], item["path"], item["title"]) for key, item in interface["outputs"].items()]
    table(("output", "kind", "file", "title"), outputs, "no outputs")


def _show_parameters(schema: dict[str, Any]) -> None:
    required = set(schema.get("required", []))
    rows = []
    for name, item in schema.get("properties", {}).items():
        kind = "|".join(map(str, item["enum"])) if "enum" in item else item.get("type", "")
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


@click.group(invoke_without_command=True)
@click.pass_context
def datasets(context: click.Context) -> None:
    """Your datasets; lists them."""
    if context.invoked_subcommand is None:
        context.invoke(list_datasets, as_json=False)


@datasets.command("list")
@json_option
@with_client
def list_datasets(client: Client, as_json: bool) -> None:
    """List your datasets."""
    answer = client.items("datasets")
    if as_json:
        print_json(answer)
        return
    rows = [(x["id"], x["name"], size_text(x["size"]), local_time(x["created_at"])) for x in answer]
    table(
        ("dataset", "name", "size", "uploaded"),
        rows,
        "No datasets. Upload one: labfleet datasets upload FILE",
    )


@datasets.command("upload")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--name", help="The dataset's name; the file's without it.")
@json_option
@with_client
def upload_dataset(client: Client, file: Path, name: str | None, as_json: bool) -> None:
    """Upload FILE as a new dataset; prints its id."""
    dataset = upload_with_bar(client, file, name)
    if as_json:
        print_json(dataset)
    else:
        click.echo(dataset["id"])


@datasets.command("download")
@click.argument("dataset")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="A file, or a directory to put it into."
)
@with_client
def download_dataset(client: Client, dataset: str, output: Path | None) -> None:
    """Download DATASET (its id), checked by its SHA-256."""
    found = client.get(at("datasets", dataset))
    name = safe_name(found["name"]).name
    target = output / name if output and output.is_dir() else output or Path(name)
    click.echo(fetch_dataset(client, found, target))


@click.command()
@json_option
@with_client
def workers(client: Client, as_json: bool) -> None:
    """List the workers and how busy they are."""
    answer = client.items("workers")
    if as_json:
        print_json(answer)
        return
    rows = [_worker_row(worker) for worker in answer]
    columns = ("worker", "state", "keys", "tags", "busy", "load", "cores", "last seen")
    table(columns, rows, "No worker has reported yet: check labfleet-worker.service on the workers.")


def _worker_row(worker: dict[str, Any]) -> tuple[Any, ...]:
    state = next((state for state in ("away", "stopping", "draining") if worker[state]), "ready")
    keys, tags, seen = " ".join(worker["keys"]), " ".join(worker["tags"]), local_time(worker["last_seen"])
    busy = f"{worker['slots'] - worker['free_slots']}/{worker['slots']}"
    return worker["name"], state, keys, tags, busy, f"{worker['load1']:.2f}", worker["cores"], seen
