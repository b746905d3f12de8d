"""`labfleet datasets workers`: what there is."""

from __future__ import annotations

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
