"""`labfleet jobs tasks show log timeline provenance fetch`: finding jobs, and what is known of them."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from labfleet.cli.client import Client, at
from labfleet.cli.download import fetch_job
from labfleet.cli.options import STATES, filter_options, page_options
from labfleet.cli.output import (
    console,
    json_option,
    local_time,
    print_json,
    size_text,
    span_text,
    state_text,
    table,
    time_text,
    with_client,
)
from labfleet.cli.sharing import for_whom
from labfleet.cli.tree import WRONG, counts_text, reasons_of, task_state, tree_of
from labfleet.cli.verbs import find_task

Json = Mapping[str, Any]

# Of a large tree those tasks are looked for that run or went wrong; so many of each state.
OF_INTEREST = (*WRONG, "running")
OF_INTEREST_SHOWN = 10
WHOSE = ("mine", "shared", "public", "all")
# So many events of one kind in a row are told in one line.
ALIKE = 4


@click.command("jobs")
@filter_options
@click.option(
    "--whose",
    type=click.Choice(WHOSE),
    help="Your own, those of others that are shared with you, public ones, or all that you may see.",
)
@page_options
@json_option
@with_client
def jobs(
    client: Client, wanted: dict[str, Any], page: dict[str, Any], whose: str | None, as_json: bool
) -> None:
    """Find your jobs, newest first. With --whose also those that others share."""
    query = {key: ",".join(value) if isinstance(value, tuple) else value for key, value in wanted.items()}
    answer = client.get("jobs", **query, **page, whose=whose)
    if as_json:
        print_json(answer)
        return
    owners = len({job["owner"] for job in answer["items"]}) > 1
    columns = ("job", "state", "tasks", "protocols", "label", *(["owner"] if owners else []), "submitted")
    rows = [_job_row(job, owners) for job in answer["items"]]
    table(
        columns,
        rows,
        "No jobs match." if wanted or whose else "No jobs. Submit one: labfleet submit PROTOCOL",
    )
    if answer.get("next"):
        click.echo(f"More: the same with --after {answer['next']}", err=True)


def _job_row(job: Json, owners: bool) -> tuple[Any, ...]:
    counts = job["counts"]
    ended = f"{counts['total'] - counts['queued'] - counts['running']}/{counts['total']}"
    owner = [job["owner"]] if owners else []
    protocols, submitted = ", ".join(job["protocols"]), local_time(job["created_at"])
    return job["id"], _job_state(job), ended, protocols, job["label"], *owner, submitted


def _job_state(job: Json) -> Text:
    text = state_text(job["state"])
    return text.append(" (held)", style="dim") if job["held"] and not job["finished_at"] else text


@click.command("tasks")
@click.argument("job")
@click.option("--state", type=click.Choice(STATES), help="Only tasks in this state.")
@page_options
@json_option
@with_client
def tasks(client: Client, job: str, state: str | None, page: dict[str, Any], as_json: bool) -> None:
    """List the tasks of JOB, in the order of its file."""
    answer = client.get(at("jobs", job, "tasks"), state=state, **page)
    if as_json:
        print_json(answer)
        return
    rows = [_task_row(task) for task in answer["items"]]
    table(("task", "state", "protocol", "worker", "took", ""), rows, "No such tasks.")
    if answer.get("next"):
        click.echo(f"More: the same with --after {answer['next']}", err=True)


def _task_row(task: Json) -> tuple[Any, ...]:
    took = span_text(task["started_at"], task["finished_at"])
    told = task["reason"]["message"] if task["reason"] else task["message"] or task["progress_text"]
    protocol = f"{task['protocol']} {task['version']}"
    return task["name"], task_state(task), protocol, task["worker"], took, told


@click.command()
@click.argument("job")
@click.option("--spec", is_flag=True, help="Print what was submitted, as JSON that 'labfleet submit' takes.")
@json_option
@with_client
def show(client: Client, job: str, spec: bool, as_json: bool) -> None:
    """Show JOB: its tasks, why they wait, its results."""
    if spec:
        print_json(client.get(at("jobs", job, "spec")))
        return
    state = client.get(at("jobs", job))
    _add_artifacts(client, state)
    if as_json:
        print_json(state)
        return
    _show_head(state)
    if state["nodes"]:
        _show_tree(client, state)
    else:
        _show_task(state["tasks"][0])


def _add_artifacts(client: Client, job: dict[str, Any]) -> None:
    """Give each task that the answer has its artifacts. They come in the order of the tasks."""
    known = {task["id"]: task for task in job["tasks"]}
    for task in job["tasks"]:
        task["artifacts"] = []
    results = client.every(at("jobs", job["id"], "results"))
    for result in itertools.takewhile(lambda result: result["task"] in known, results):
        known[result["task"]]["artifacts"].append(result)


MAIL = {None: None, True: "when it has ended", False: "none"}


def _show_head(job: dict[str, Any]) -> None:
    out = console()
    out.print("job", job["id"], _job_state(job), Text(job["label"]))
    lines = {
        "owner": None if job["may_change"] else job["owner"],
        "for": None if job["visibility"] == "private" else for_whom(job),
        "tasks": Text(f"{job['counts']['total']}: ").append(counts_text(job["counts"]))
        if job["nodes"]
        else None,
        "labels": ", ".join(job["labels"]),
        "note": job["note"],
        "priority": job["priority"],
        "webhook": job["webhook"],
        "mail": MAIL[job["mail"]],
        "submitted": local_time(job["created_at"]) if job["nodes"] else None,
        "finished": local_time(job["finished_at"]) if job["nodes"] else None,
    }
    _show_lines(lines)


def _show_lines(lines: Mapping[str, Any]) -> None:
    for name, value in lines.items():
        if value:
            console().print(f"  {name:<11}", value, markup=False, sep="")


def _show_tree(client: Client, job: Json) -> None:
    tasks = at("jobs", job["id"], "tasks")
    others = [
        task
        for state in OF_INTEREST
        if job["counts"]["total"] > len(job["tasks"])
        for task in client.items(tasks, state=state, limit=OF_INTEREST_SHOWN)
    ]
    out = console()
    out.print()
    out.print(tree_of(job, others))
    reasons = reasons_of(job["tasks"])
    if reasons:
        out.print("\nwhy they wait")
        for names, message in reasons:
            out.print(f"  {names}: {message}", markup=False)


def _show_task(task: Json) -> None:
    progress = f"{task['progress']:.0%} {task.get('progress_text') or ''}".strip()
    lines = {
        "task": task["id"],
        "protocol": f"{task['protocol']} {task['version']} ({task['commit'][:12]})",
        "state": task_state(task),
        "waits": task["reason"]["message"] if task["reason"] else None,
        "progress": progress,
        "attempt": f"{task['attempt']} of {task['max_attempts']}",
        "worker": task.get("worker"),
        "started": local_time(task.get("started_at")),
        "finished": local_time(task.get("finished_at")),
        "parameters": json.dumps(task["parameters"], ensure_ascii=False),
        "failure": task.get("failure"),
        "message": task.get("message"),
    }
    _show_lines(lines)
    rows = [
        (f"  {item['name']}", item["kind"], size_text(item["size"]), item["id"]) for item in task["artifacts"]
    ]
    table(("  artifact", "kind", "size", "id"), rows, "  no artifacts")


@click.command()
@click.argument("job")
@click.option("--task", metavar="NAME|ID", help="The task, in a job of several.")
@click.option("--attempt", type=click.IntRange(1), help="An earlier attempt; the last one without it.")
@with_client
def log(client: Client, job: str, task: str | None, attempt: int | None) -> None:
    """Print the log of the task in JOB."""
    which = find_task(client, job, task) if task else _only_task(client, job)
    offset = 0
    while chunk := client.log(which, offset, attempt):
        offset += len(chunk)
        click.echo(chunk.decode("utf-8", "replace"), nl=False)


def _only_task(client: Client, job: str) -> str:
    state = client.get(at("jobs", job))
    if state["counts"]["total"] > 1:
        raise click.UsageError("The job has several tasks: name one with --task.")
    return str(state["tasks"][0]["id"])


@click.command()
@click.argument("job")
@json_option
@with_client
def timeline(client: Client, job: str, as_json: bool) -> None:
    """Tell what happened to JOB, from its beginning."""
    events = client.every(at("jobs", job, "events"))
    if as_json:
        print_json(list(events))
        return
    names = _Names(client, job)
    for kind, group in itertools.groupby(events, key=lambda event: event["event"]):
        for line in _event_lines(kind, group, names):
            console().print(line)


def _event_lines(kind: str, group: Iterator[Json], names: _Names) -> Iterator[Text]:
    """A line for each event, or one for many of a kind in a row."""
    first = list(itertools.islice(group, ALIKE))
    more = sum(1 for _ in group)
    if more:
        at_first = local_time(first[0]["at"])
        yield Text.assemble((at_first, "dim"), f"  {kind:<16} {len(first) + more} tasks")
        return
    for event in first:
        told = ", ".join(f"{key} {value}" for key, value in event["detail"].items())
        again = f" (attempt {event['attempt']})" if event["attempt"] > 1 else ""
        state = state_text(event["to_state"]) if event["to_state"] != event["from_state"] else Text()
        line = Text.assemble(
            (local_time(event["at"]), "dim"), f"  {kind:<16} {names[event['task_id']]}{again}  "
        )
        yield line.append(state).append(f"  {told}" if told else "", style="dim")


class _Names:
    """Names of a job's tasks by id; all are asked for when one is wanted that the first page lacks."""

    def __init__(self, client: Client, job: str) -> None:
        self._more = client.every(at("jobs", job, "tasks"))
        self._known: dict[str, str] = {}

    def __getitem__(self, task: str) -> str:
        while task not in self._known and (found := next(self._more, None)):
            self._known[found["id"]] = found["name"]
        return self._known.get(task, task)


@click.command()
@click.argument("job", metavar="TASK|JOB")
@click.option("--task", metavar="NAME", help="The task's name, if a JOB is given.")
@json_option
@with_client
def provenance(client: Client, job: str, task: str | None, as_json: bool) -> None:
    """Show where the result of a task came from.

    The task is named by its id, or by its JOB and --task. Protocol and commit, parameters, inputs and
    results by SHA-256, and each attempt with its worker.
    """
    found = client.get(at("tasks", find_task(client, job, task) if task else job, "provenance"))
    if as_json:
        print_json(found)
        return
    task_ = found["task"]
    _show_lines(
        {
            "task": f"{task_['name']} ({task_['id']})",
            "job": task_["job"],
            "state": task_state(task_),
            "protocol": f"{task_['protocol']} {task_['version']}",
            "commit": task_["commit"],
            "parameters": json.dumps(task_["parameters"], ensure_ascii=False),
            "reused from": task_["reused_from"],
        }
    )
    for attempt in found["attempts"]:
        _show_attempt(attempt)
    click.echo()
    inputs = [
        (item["slot"], item["name"], size_text(item["size"]), item["sha256"]) for item in found["inputs"]
    ]
    table(("input", "file", "size", "sha256"), inputs, "no inputs")
    click.echo()
    results = [
        (item["name"], item["kind"], size_text(item["size"]), item["sha256"]) for item in found["artifacts"]
    ]
    table(("result", "kind", "size", "sha256"), results, "no results")


def _show_attempt(attempt: Json) -> None:
    outcome = attempt["outcome"] or "running"
    usage, environment = attempt["usage"], attempt["environment"]
    # Those of the attempt's own begin with a capital, and may be long.
    own = {name: text for name, text in environment.items() if name[:1].isupper()}
    used = {
        "cpu": time_text(usage["cpu_seconds"]) if "cpu_seconds" in usage else None,
        "memory": size_text(usage["memory_bytes"]) if "memory_bytes" in usage else None,
    }
    _show_lines(
        {
            f"attempt {attempt['number']}": f"{outcome}, exit code {attempt['exit_code']}"
            if attempt["exit_code"] is not None
            else outcome,
            "  worker": attempt["worker"],
            "  from": local_time(attempt["claimed_at"]),
            "  to": local_time(attempt["ended_at"]),
            "  used": ", ".join(f"{value} of {name}" for name, value in used.items() if value),
            "  machine": ", ".join(f"{name} {text}" for name, text in environment.items() if name not in own),
            **{f"  {name}": text for name, text in own.items()},
            "  message": attempt["message"],
        }
    )


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
    """Fetch the results of JOB.

    For a job of several tasks they come into a folder for each. Every file is checked by its SHA-256; a
    broken-off fetch goes on. While the job runs, it brings what is
    there already.
    """
    paths = []
    for path in fetch_job(client, job, output or Path(job)):
        paths.append(str(path))
        if not as_json:
            click.echo(path)
            sys.stdout.flush()
    if as_json:
        print_json(paths)
    elif not paths:
        click.echo("The job has no artifacts (yet): 'labfleet show' tells its state.", err=True)


COMMANDS: list[click.Command] = [jobs, tasks, show, log, timeline, provenance, fetch]
