"""`labfleet submit validate resubmit`: from a protocol's name or a file to a job."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import yaml

from labfleet.cli import watch as watching
from labfleet.cli.client import Client, ServerProblem, at
from labfleet.cli.jobfile import InvalidJobFile, JobFile, is_file_name, read_job_file
from labfleet.cli.options import submission_options
from labfleet.cli.output import json_option, number_of, print_json, size_text, table, time_text, with_client
from labfleet.cli.transfer import upload_with_bar
from labfleet.errors import Invalid

NAMES_SHOWN = 10

watch_option = click.option(
    "--watch", "wait", is_flag=True, help="Follow the job to its end (exit codes as 'labfleet watch')."
)


def value_options(function: Callable[..., None]) -> Callable[..., None]:
    """The options for parameters (`assigned`, `file`) and `inputs`; `given_values` reads them."""
    assigned = click.option(
        "-p", "--param", "assigned", multiple=True, metavar="NAME=VALUE", help="A parameter; repeatable."
    )
    file = click.option(
        "--params",
        "file",
        type=click.File("r", encoding="utf-8"),
        help="A JSON or YAML file of parameters ('-': standard input); -p goes before it.",
    )
    inputs = click.option(
        "-i",
        "--input",
        "inputs",
        multiple=True,
        metavar="SLOT=DATASET|@FILE",
        help="The dataset for an input slot, or a file to upload for it; repeatable.",
    )
    return assigned(file(inputs(function)))


def given_values(
    client: Client,
    interface: Mapping[str, Any],
    assigned: tuple[str, ...],
    file: Any,
    inputs: tuple[str, ...],
) -> dict[str, Any]:
    """`parameters` and `inputs` as the options say them; files are uploaded."""
    parameters = _parameters(assigned, file, interface["parameters"])
    return {"parameters": parameters, "inputs": dict(_input(client, item) for item in inputs)}


@click.command()
@click.argument("what", metavar="PROTOCOL|FILE|-")
@click.option("--version", help="A version of the protocol; the newest without it.")
@value_options
@submission_options
@click.option("--dry-run", is_flag=True, help="Only tell what would run, and where.")
@watch_option
@json_option
@with_client
def submit(  # noqa: PLR0917 - click gives one argument for each option
    client: Client,
    what: str,
    version: str | None,
    assigned: tuple[str, ...],
    file: Any,
    inputs: tuple[str, ...],
    about: dict[str, Any],
    dry_run: bool,
    wait: bool,
    as_json: bool,
) -> None:
    """Submit a job: a task that runs PROTOCOL, or a FILE.

    A FILE (YAML or JSON, '-' for standard input) has a dot or a slash in its name; write ./NAME for
    others. What is said here of the job (label, note, priority …) goes before what the file says.
    """
    if is_file_name(what):
        if version or assigned or file or inputs:
            raise click.UsageError("--version, -p, --params and -i go with a PROTOCOL; write them into FILE.")
        written = read_job_file(what)
        answer = _post(client, written.spec | about, written, dry_run=dry_run)
    else:
        interface = client.get(at("protocols", what, "interface"), version=version)
        body = {"protocol": what} if version is None else {"protocol": what, "version": version}
        given = given_values(client, interface, assigned, file, inputs)
        answer = _post(client, body | given | about, dry_run=dry_run)
    if dry_run:
        tell_plan(answer, as_json)
    else:
        tell_made(client, answer, wait, as_json)


def _post(
    client: Client, body: Mapping[str, Any], written: JobFile | None = None, *, dry_run: bool = False
) -> dict[str, Any]:
    """Submit, or ask what would run; faults of a file come with their lines."""
    try:
        query = {"dry_run": "true"} if dry_run else {}
        answer: dict[str, Any] = client.post("jobs", body, key=str(uuid.uuid4()), **query)
    except ServerProblem as problem:
        told = written.blame(problem) if written else None
        if told is None:
            raise
        raise told from None
    return answer


def tell_made(client: Client, job: Mapping[str, Any], wait: bool, as_json: bool) -> None:
    """Say which job was made, and follow it if that was asked for."""
    if as_json and not wait:
        print_json(job)
        return
    total = job["counts"]["total"]
    tasks = f", {number_of(total, 'task')}" if total > 1 else ""
    held = f"; it is held: labfleet resume {job['id']}" if job["held"] else ""
    click.echo(f"Job {job['id']} {job['state']}{tasks}{held}", err=as_json)
    if wait:
        watching.watch_to_the_end(client, job["id"], as_json)


def tell_plan(plan: Mapping[str, Any], as_json: bool) -> None:
    """Say what a job would be."""
    if as_json:
        print_json(plan)
        return
    click.echo(f"{_size(plan)}: {', '.join(plan['protocols'])}")
    names = ", ".join(plan["names"][:NAMES_SHOWN])
    more = " …" if len(plan["names"]) > NAMES_SHOWN else ""
    click.echo(f"Names: {names}{more}\n")
    columns = ("tasks", "key", "cores", "memory", "time", "tags", "workers that could take them")
    table(columns, [_lane(lane) for lane in plan["lanes"]], "nothing would run")
    for each in plan["inapplicable"]:
        lacks = f"the dataset for the input '{each['slot']}' lacks {', '.join(each['missing'])}"
        click.echo(f"Inapplicable: {each['task']}: {lacks}.", err=True)
    if not all(lane["workers"] for lane in plan["lanes"]):
        click.echo("\nTasks that no worker could take wait until there is one: ask your admin.", err=True)


def _lane(lane: Mapping[str, Any]) -> tuple[Any, ...]:
    size, time = size_text(lane["memory_bytes"]), time_text(lane["wall_seconds"])
    workers = ", ".join(lane["workers"]) or "none"
    return lane["tasks"], lane["key"], lane["cores"], size, time, " ".join(lane["tags"]), workers


def _size(plan: Mapping[str, Any]) -> str:
    return f"{number_of(plan['tasks'], 'task')} of {number_of(len(plan['protocols']), 'protocol')}"


@click.command()
@click.argument("file", metavar="FILE|-")
@json_option
@with_client
def validate(client: Client, file: str, as_json: bool) -> None:
    """Check the job in FILE; nothing is submitted.

    The server checks it as if it was submitted. Prints every fault as file:line: place: message, and
    ends with exit code 1 if there is one.
    """
    try:
        written = read_job_file(file)
        plan = _post(client, written.spec, written, dry_run=True)
    except InvalidJobFile as error:
        if as_json:
            print_json({"ok": False, "errors": [vars(fault) for fault in error.faults]})
        else:
            click.echo(error.detail, err=True)
        raise click.exceptions.Exit(1) from None
    if as_json:
        print_json({"ok": True, "errors": [], **plan})
    else:
        click.echo(f"OK: {_size(plan)}")


@click.command()
@click.argument("job")
@click.option(
    "--set",
    "assigned",
    multiple=True,
    metavar="PATH=VALUE",
    help="What is to differ, such as parameters.top=20, or TASK.parameters.top=20 in a tree; repeatable.",
)
@submission_options
@watch_option
@json_option
@with_client
def resubmit(  # noqa: PLR0917 - click gives one argument for each option
    client: Client, job: str, assigned: tuple[str, ...], about: dict[str, Any], wait: bool, as_json: bool
) -> None:
    """Submit JOB once more as a new job, with changes.

    A VALUE is read as JSON if it is JSON, else it is text. It is the earlier job's own specification that
    is changed: a protocol without a version is run in its newest one.
    """
    spec = client.get(at("jobs", job, "spec"))
    for item in assigned:
        _assign(spec, item)
    touched = {item.partition("=")[0].partition(".")[0] for item in assigned}
    changes = {name: spec[name] for name in touched & spec.keys()}
    if touched - spec.keys():  # the name of a task stands for a place in the tree
        changes["tree"] = spec["tree"]
    answer = client.post(at("jobs", job, "resubmit"), {"changes": changes | about}, key=str(uuid.uuid4()))
    tell_made(client, answer, wait, as_json)


def _assign(spec: dict[str, Any], item: str) -> None:
    path, separator, text = item.partition("=")
    *way, last = path.split(".")
    if not separator or not last:
        raise Invalid(f"--set {item}: no value.", hint="Write --set path=value.")
    here: Any = spec
    if way and (task := find_task(spec.get("tree"), way[0])):
        here, way = task, way[1:]
    for word in way:
        here = _inner(here, word, item)
    if isinstance(here, list):
        _inner(here, last, item)  # only what is there can be replaced
        here[int(last)] = _read_value(text)
    else:
        here[last] = _read_value(text)


def _inner(here: Any, word: str, item: str) -> Any:
    if isinstance(here, list) and word.isdigit() and int(word) < len(here):
        return here[int(word)]
    if isinstance(here, dict) and isinstance(here.setdefault(word, {}), dict | list):
        return here[word]
    raise Invalid(
        f"--set {item}: there is no '{word}' to change.",
        hint="'labfleet show JOB --spec' shows what there is.",
    )


def find_task(node: Any, name: str) -> dict[str, Any] | None:
    """The task of this name in the tree of a specification."""
    if not isinstance(node, dict):
        return None
    if node.get("task") == name:
        return node
    children = [*node.get("sequential", []), *node.get("parallel", [])]
    return next((found for child in children if (found := find_task(child, name))), None)


def _parameters(assigned: tuple[str, ...], file: Any, schema: dict[str, Any]) -> dict[str, Any]:
    values = _from_file(file) if file else {}
    for item in assigned:
        name, separator, text = item.partition("=")
        if not separator or not name:
            raise Invalid(f"-p {item}: no value.", hint="Write -p name=value.")
        values[name] = value_of(text, schema.get("properties", {}).get(name, {}))
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


def value_of(text: str, schema: Mapping[str, Any]) -> Any:
    """Text stays text where the protocol wants text; anything else is read as JSON if it is JSON."""
    return text if schema.get("type") == "string" else _read_value(text)


def _read_value(text: str) -> Any:
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


COMMANDS: list[click.Command] = [submit, validate, resubmit]
