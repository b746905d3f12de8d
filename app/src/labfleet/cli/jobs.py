"""`labfleet submit watch jobs show cancel fetch`: a job from its beginning to its results."""

from __future__ import annotations

import json
import sys
import uuid
from pathlib import Path
from typing import Any

import click
import yaml

from labfleet.cli import watch as watching
from labfleet.cli.client import Client, at
from labfleet.cli.download import fetch_job
from labfleet.cli.output import (
    console,
    json_option,
    local_time,
    print_json,
    size_text,
    state_text,
    table,
    with_client,
)
from labfleet.cli.transfer import upload_with_bar
from labfleet.errors import Invalid

STATES = ("queued", "running", "success", "failed", "partial", "inapplicable", "cancelled")


@click.command()
@click.argument("protocol")
@click.option("--version", help="A version of the protocol; the newest without it.")
@click.option(
    "-p", "--param", "assigned", multiple=True, metavar="NAME=VALUE", help="A parameter; repeatable."
)
@click.option(
    "--params",
    "file",
    type=click.File("r", encoding="utf-8"),
    help="A JSON or YAML file of parameters ('-': standard input); -p goes before it.",
)
@click.option(
    "-i",
    "--input",
    "inputs",
    multiple=True,
    metavar="SLOT=DATASET|@FILE",
    help="The dataset for an input slot, or a file to upload for it; repeatable.",
)
@click.option("--label", help="A name for the job, for your own eyes.")
@click.option(
    "--watch", "wait", is_flag=True, help="Follow the job to its end (exit codes as 'labfleet watch')."
)
@json_option
@with_client
def submit(  # noqa: PLR0917 - click gives one argument for each option
    client: Client,
    protocol: str,
    version: str | None,
    assigned: tuple[str, ...],
    file: Any,
    inputs: tuple[str, ...],
    label: str | None,
    wait: bool,
    as_json: bool,
) -> None:
    """Submit a job that runs PROTOCOL."""
    body: dict[str, Any] = {"protocol": protocol}
    interface = client.get(at("protocols", protocol, "interface"), version=version)
    body["parameters"] = _parameters(assigned, file, interface["parameters"])
    body["inputs"] = dict(_input(client, item) for item in inputs)
    body |= {key: value for key, value in (("version", version), ("label", label)) if value is not None}
    job = client.post("jobs", body, key=str(uuid.uuid4()))
    if as_json and not wait:
        print_json(job)
        return
    click.echo(f"Job {job['id']} {job['state']}", err=as_json)
    if wait:
        _follow(client, job["id"], as_json)


def _parameters(assigned: tuple[str, ...], file: Any, schema: dict[str, Any]) -> dict[str, Any]:
    values = _from_file(file) if file else {}
    for item in assigned:
        name, separator, text = item.partition("=")
        if not separator or not name:
            raise Invalid(f"-p {item}: no value.", hint="Write -p name=value.")
        values[name] = _value(text, schema.get("properties", {}).get(name, {}))
    return values


def _from_file(file: Any) -> dict[str, Any]:
    try:
        values = yaml.safe_load(file.read())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        message = " ".join(str(error).split())
        raise Invalid(f"{file.name}: {message}.", hint="Write the parameters as JSON or YAML.") from None
    if not isinstance(values, dict):
        raise Invalid(f"{file.name}: no mapping of parameters.", hint="Write 'name: value' lines.")
    return values


def _value(text: str, schema: dict[str, Any]) -> Any:
    """Text stays text where the protocol wants text; anything else is read as JSON if it is JSON."""
    if schema.get("type") == "string":
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def _input(client: Client, item: str) -> tuple[str, str]:
    slot, separator, value = item.partition("=")
    if not separator or not slot or not value:
        raise Invalid(f"-i {item}: no dataset.", hint="Write -i slot=DATASET, or -i slot=@file.")
    if not value.startswith("@"):
        return slot, value
    path = Path(value[1:])
    if not path.is_file():
        raise Invalid(f"-i {item}: {path} is no file.", hint="Name a file that exists.")
    return slot, str(upload_with_bar(client, path)["id"])


@click.command()
@click.argument("job")
@click.option(
    "--patience",
    type=float,
    default=watching.PATIENCE_SECONDS,
    show_default=True,
    help="How many seconds to wait for a server that is away.",
)
@json_option
@with_client
def watch(client: Client, job: str, patience: float, as_json: bool) -> None:
    """Follow JOB until it is finished: states, progress, log.

    Exit codes: 0 success, 3 failed, 4 partial, 5 inapplicable, 6 cancelled, 7 failed by a fault of
    Labfleet itself, 1 any other error. Ctrl-C stops the watching, not the job.
    """
    _follow(client, job, as_json, patience)


def _follow(client: Client, job: str, as_json: bool, patience: float = watching.PATIENCE_SECONDS) -> None:
    out = console()
    if as_json:
        out.stderr = True
    try:
        final = watching.follow(client, job, out, patience)
    except KeyboardInterrupt:
        click.echo(f"\nThe job goes on. Watch it again: labfleet watch {job}", err=True)
        sys.exit(130)
    if as_json:
        print_json(final)
    for task in final["tasks"]:
        if task["state"] != "success":
            _explain(task)
    sys.exit(watching.exit_code(final))


def _explain(task: dict[str, Any]) -> None:
    whose = {"user": " (the protocol's or its input's fault)", "system": " (Labfleet's own fault)"}
    where = whose.get(task.get("failure") or "", "")
    click.echo(
        f"{task['protocol']}: {task['state']}{where}: {task.get('message') or 'no reason given'}", err=True
    )


@click.command("jobs")
@click.option("--state", type=click.Choice(STATES), help="Only jobs in this state.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@click.option("--after", help="Go on after this cursor (the 'next' of the page before).")
@json_option
@with_client
def jobs(client: Client, state: str | None, limit: int, after: str | None, as_json: bool) -> None:
    """List your jobs, newest first."""
    page = client.get("jobs", state=state, limit=limit, after=after)
    if as_json:
        print_json(page)
        return
    rows = [
        (
            job["id"],
            state_text(job["state"]),
            _protocols(job),
            job.get("label"),
            local_time(job["created_at"]),
        )
        for job in page["items"]
    ]
    table(
        ("job", "state", "protocol", "label", "submitted"),
        rows,
        "No jobs. Submit one: labfleet submit PROTOCOL",
    )
    if page.get("next"):
        click.echo(f"More: labfleet jobs --after {page['next']}", err=True)


def _protocols(job: dict[str, Any]) -> str:
    return ", ".join(f"{task['protocol']} {task['version']}" for task in job.get("tasks", []))


@click.command()
@click.argument("job")
@json_option
@with_client
def show(client: Client, job: str, as_json: bool) -> None:
    """Show JOB: its tasks, whose failure it was, its results."""
    state = client.get(at("jobs", job))
    for task in state["tasks"]:
        task["artifacts"] = client.items(at("tasks", task["id"], "artifacts"))
    if as_json:
        print_json(state)
        return
    out = console()
    out.print("job", state["id"], state_text(state["state"]), state.get("label") or "")
    for task in state["tasks"]:
        _show_task(task)


def _show_task(task: dict[str, Any]) -> None:
    out = console()
    progress = f"{task['progress']:.0%} {task.get('progress_text') or ''}".strip()
    lines = {
        "task": task["id"],
        "protocol": f"{task['protocol']} {task['version']} ({task['commit'][:12]})",
        "state": state_text(task["state"]),
        "progress": progress,
        "attempt": f"{task['attempt']} of {task['max_attempts']}",
        "worker": task.get("worker"),
        "started": local_time(task.get("started_at")),
        "finished": local_time(task.get("finished_at")),
        "parameters": json.dumps(task["parameters"]),
        "failure": task.get("failure"),
        "message": task.get("message"),
    }
    for name, value in lines.items():
        if value:
            out.print(f"  {name:<11}", value, markup=False, sep="")
    rows = [(item["name"], item["kind"], size_text(item["size"]), item["id"]) for item in task["artifacts"]]
    table(("  artifact", "kind", "size", "id"), [(f"  {row[0]}", *row[1:]) for row in rows], "  no artifacts")


@click.command()
@click.argument("job")
@json_option
@with_client
def cancel(client: Client, job: str, as_json: bool) -> None:
    """Cancel JOB. A running task is stopped; what is finished stays."""
    state = client.post(at("jobs", job, "cancel"))
    if as_json:
        print_json(state)
        return
    click.echo(f"Job {job}: cancelling asked for; its state is {state['state']}.")


@click.command()
@click.argument("job")
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where to put the files; a directory named after the job without it.",
)
@json_option
@with_client
def fetch(client: Client, job: str, output: Path | None, as_json: bool) -> None:
    """Fetch the results of JOB. Every file is checked by its SHA-256; a broken-off fetch goes on."""
    paths = fetch_job(client, job, output or Path(job))
    if as_json:
        print_json([str(path) for path in paths])
        return
    for path in paths:
        click.echo(path)
    if not paths:
        click.echo("The job has no artifacts (yet): 'labfleet show' tells its state.", err=True)
