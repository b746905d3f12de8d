"""`labfleet datasets workers`: what there is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from labfleet.cli.client import Client, at
from labfleet.cli.download import fetch_dataset, safe_name
from labfleet.cli.options import dataset_options
from labfleet.cli.output import (
    json_option,
    local_time,
    print_json,
    size_text,
    table,
    with_client,
)
from labfleet.cli.preview import column_rows, preview_lines
from labfleet.cli.transfer import upload_with_bar


@click.group(invoke_without_command=True)
@click.pass_context
def datasets(context: click.Context) -> None:
    """Your datasets; lists them."""
    if context.invoked_subcommand is None:
        context.invoke(list_datasets, as_json=False)


@datasets.command("list")
@click.option("--text", metavar="WORDS", help="With these words in name, description, label or term.")
@click.option("--label", "labels", multiple=True, help="With this one among their labels; repeatable.")
@click.option("--term", "terms", multiple=True, help="With this one among their terms; repeatable.")
@click.option("--licence", help="With this licence.")
@click.option("--mine", is_flag=True, default=None, help="Without what others share.")
@json_option
@with_client
def list_datasets(client: Client, as_json: bool, **wanted: Any) -> None:
    """List and search the datasets that you may see."""
    query = {
        key: ",".join(value) or None if isinstance(value, tuple) else value for key, value in wanted.items()
    }
    answer = client.items("datasets", **query)
    if as_json:
        print_json(answer)
        return
    rows = [
        (x["id"], x["name"], x["version"], size_text(x["size"]), local_time(x["created_at"])) for x in answer
    ]
    table(
        ("dataset", "name", "version", "size", "uploaded"),
        rows,
        "No datasets. Upload one: labfleet datasets upload FILE",
    )


@datasets.command("upload")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--name", help="The dataset's name; the file's without it.")
@click.option("--previous", metavar="ID", help="The dataset of which this is the next version.")
@dataset_options
@json_option
@with_client
def upload_dataset(  # noqa: PLR0917 - click gives one argument for each option
    client: Client, file: Path, name: str | None, previous: str | None, about: dict[str, Any], as_json: bool
) -> None:
    """Upload FILE as a new dataset, or as the next version of one; prints its id."""
    dataset = upload_with_bar(client, file, name, previous=previous, **about)
    if as_json:
        print_json(dataset)
    else:
        click.echo(dataset["id"])


@datasets.command("show")
@click.argument("dataset")
@json_option
@with_client
def show_dataset(client: Client, dataset: str, as_json: bool) -> None:
    """Show what is told about DATASET, its versions, and what is in it if it is a table."""
    found = client.get(at("datasets", dataset))
    preview = client.get(at("datasets", dataset, "preview"))
    versions = client.items(at("datasets", dataset, "versions"))
    if as_json:
        print_json({**found, "versions": versions, "preview": preview})
        return
    click.echo(
        f"{found['name']}, version {found['version']} of {len(versions)}, {size_text(found['size'])}, "
        f"uploaded {local_time(found['created_at'])} by {found['owner']}\n"
    )
    for key in ("description", "licence", "labels", "terms", "sha256"):
        value = found[key]
        if value:
            click.echo(f"{key}: {', '.join(value) if isinstance(value, list) else value}")
    if len(versions) > 1:
        click.echo()
        rows = [(x["version"], x["id"], size_text(x["size"]), local_time(x["created_at"])) for x in versions]
        table(("version", "dataset", "size", "uploaded"), rows, "")
    click.echo()
    for line in preview_lines(preview):
        click.echo(line)
    if preview["result"]:
        table(
            ("column", "type", "missing", "distinct", "values"), column_rows(preview["result"]), "no columns"
        )


@datasets.command("change")
@click.argument("dataset")
@dataset_options
@json_option
@with_client
def change_dataset(client: Client, dataset: str, about: dict[str, Any], as_json: bool) -> None:
    """Change what is told about DATASET. Its content never changes: upload another version for that.

    --labels and --terms replace all of them; --labels '' takes them away.
    """
    if not about:
        raise click.UsageError("Say what to change: --description, --licence, --labels or --terms.")
    answer = client.patch(at("datasets", dataset), about)
    if as_json:
        print_json(answer)
        return
    click.echo(f"Dataset {dataset}: changed {', '.join(sorted(about))}.")


@datasets.command("delete")
@click.argument("datasets", metavar="DATASET…", nargs=-1, required=True)
@with_client
def delete_datasets(client: Client, datasets: tuple[str, ...]) -> None:
    """Delete DATASET… for good. Refused while jobs take it."""
    for dataset in datasets:
        client.delete(at("datasets", dataset))
        click.echo(f"Dataset {dataset}: deleted.")


def _whom(function: Callable[..., None]) -> Callable[..., None]:
    groups = click.option("--group", "groups", metavar="NAME", multiple=True, help="A group; repeatable.")
    users = click.option("--user", "users", metavar="NAME", multiple=True, help="A user; repeatable.")
    return users(groups(click.argument("dataset")(function)))


@datasets.command("share")
@_whom
@click.option("--everybody", is_flag=True, help="Everybody in the lab.")
@with_client
def share_dataset(
    client: Client, dataset: str, users: tuple[str, ...], groups: tuple[str, ...], everybody: bool
) -> None:
    """Let users, groups or everybody see and use your DATASET."""
    _share(client, dataset, ("share", "publish"), {"users": users, "groups": groups}, everybody)


@datasets.command("unshare")
@_whom
@click.option("--everybody", is_flag=True, help="Everybody but those it is shared with by name or group.")
@with_client
def unshare_dataset(
    client: Client, dataset: str, users: tuple[str, ...], groups: tuple[str, ...], everybody: bool
) -> None:
    """Take your DATASET back. Jobs that were submitted go on."""
    _share(client, dataset, ("unshare", "withdraw"), {"users": users, "groups": groups}, everybody)


def _share(
    client: Client, dataset: str, verbs: tuple[str, str], whom: dict[str, tuple[str, ...]], everybody: bool
) -> None:
    if not (any(whom.values()) or everybody):
        raise click.UsageError("Say with whom: --user NAME, --group NAME or --everybody.")
    answer = client.post(at("datasets", dataset, verbs[0]), whom)
    if everybody:
        answer = client.post(at("datasets", dataset, verbs[1]))
    names = ", ".join([*answer["shared_with"]["users"], *answer["shared_with"]["groups"]])
    click.echo(f"Dataset {dataset}: {answer['visibility']}{f', shared with {names}' if names else ''}.")


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


COMMANDS: list[click.Command] = [datasets, workers]
