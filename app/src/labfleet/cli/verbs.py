"""`labfleet cancel retry force-retry reset hold resume delete change`: what can be done to jobs and tasks."""

from __future__ import annotations

import sys
import uuid
from dataclasses import dataclass
from typing import Any

import click

from labfleet.cli import tell_error
from labfleet.cli.client import Client, ServerProblem, at
from labfleet.cli.options import about_options, filter_options
from labfleet.cli.output import json_option, number_of, print_json, with_client
from labfleet.errors import Invalid, NotFound

REFUSED_SHOWN = 20


@dataclass(frozen=True)
class Verb:
    """A verb: what its help says, what is said when it is done, and whether single tasks know it."""

    name: str
    help: str
    done: str
    of_tasks: bool = True


VERBS = (
    Verb(
        "cancel",
        "Cancel JOB…: stop what runs, let nothing more begin.\n\n"
        "What has ended stays. Possible while a job is queued or running.",
        "cancelling asked for",
    ),
    Verb(
        "retry",
        "Run again what did not succeed in JOB….\n\n"
        "Results that are there stay. Possible when a job is failed, partial, inapplicable or cancelled.",
        "retried",
    ),
    Verb(
        "force-retry",
        "Run all of JOB… again, also what succeeded.\n\nPossible when a job has ended.",
        "retried from its beginning",
    ),
    Verb(
        "reset",
        "Put JOB… back to its beginning, and hold it there.\n\n"
        "'labfleet resume' lets it run. Possible when a job has ended.",
        "reset and held",
    ),
    Verb(
        "hold",
        "Let nothing more of JOB… begin; what runs goes on.\n\nPossible while a job is queued or running.",
        "held",
        of_tasks=False,
    ),
    Verb(
        "resume",
        "Let JOB… go on that was held or reset.\n\nPossible while a job is queued or running.",
        "resumed",
    ),
    Verb(
        "delete",
        "Delete JOB… with its logs and results, for good.\n\nPossible when a job has ended.",
        "deleted",
        of_tasks=False,
    ),
)


def _command(verb: Verb) -> click.Command:
    @click.command(verb.name, help=verb.help)
    @click.argument("jobs", metavar="JOB…", nargs=-1)
    @click.option(
        "--all", "everything", is_flag=True, help="All jobs that the filters find, in place of JOB…."
    )
    @filter_options
    @click.option("--dry-run", is_flag=True, help="With --all: only count the jobs.")
    @click.option("--yes", is_flag=True, help="With --all: do not ask before it is done.")
    @json_option
    @with_client
    def run(  # noqa: PLR0917 - click gives one argument for each option
        client: Client,
        jobs: tuple[str, ...],
        everything: bool,
        wanted: dict[str, Any],
        dry_run: bool,
        yes: bool,
        as_json: bool,
        task: str | None = None,
    ) -> None:
        _check_use(jobs, everything, bool(wanted or dry_run or yes), task)
        if everything:
            _in_bulk(client, verb, wanted, _Way(dry_run, yes, as_json))
        elif task is not None:
            _one_task(client, verb, find_task(client, jobs[0] if jobs else None, task), as_json)
        else:
            _one_by_one(client, verb, jobs, as_json)

    if verb.of_tasks:
        click.option("--task", metavar="NAME|ID", help="Only this task (an ID needs no JOB).")(run)
    return run


@dataclass(frozen=True)
class _Way:
    dry_run: bool
    yes: bool
    as_json: bool


def _check_use(jobs: tuple[str, ...], everything: bool, bulk: bool, task: str | None) -> None:
    if everything == bool(jobs or task):
        raise click.UsageError("Name a JOB (or several), or say --all with filters.")
    if bulk and not everything:
        raise click.UsageError("Filters, --dry-run and --yes go with --all.")
    if task is not None and len(jobs) > 1:
        raise click.UsageError("--task goes with one JOB.")


def _one_by_one(client: Client, verb: Verb, jobs: tuple[str, ...], as_json: bool) -> None:
    answers = []
    for job in jobs:
        try:
            answers.append(_do(client, verb, job))
        except ServerProblem as problem:  # the others go on
            tell_error(problem)
            continue
        if not as_json:
            state = f"; its state is {answers[-1]['state']}" if "state" in answers[-1] else ""
            click.echo(f"Job {job}: {verb.done}{state}.")
    if as_json and answers:
        print_json(answers[0] if len(jobs) == 1 else answers)
    if len(answers) < len(jobs):
        sys.exit(1)


def _do(client: Client, verb: Verb, job: str) -> dict[str, Any]:
    if verb.name == "delete":
        client.delete(at("jobs", job))
        return {"id": job}
    answer: dict[str, Any] = client.post(at("jobs", job, verb.name))
    return answer


def _one_task(client: Client, verb: Verb, task: str, as_json: bool) -> None:
    answer = client.post(at("tasks", task, verb.name))
    if as_json:
        print_json(answer)
    else:
        click.echo(f"Task {answer['name']}: {verb.done}; its state is {answer['state']}.")


def find_task(client: Client, job: str | None, task: str) -> str:
    """The id of a task by its id, or by its name in `job`."""
    try:
        return str(uuid.UUID(task))
    except ValueError:
        if job is None:
            raise Invalid(f"'{task}' is no task's id.", hint="A task's name needs its JOB too.") from None
    for found in client.every(at("jobs", job, "tasks")):
        if found["name"] == task:
            return str(found["id"])
    raise NotFound(f"The job has no task '{task}'.", hint=f"'labfleet tasks {job}' lists them.")


def _in_bulk(client: Client, verb: Verb, wanted: dict[str, Any], way: _Way) -> None:
    body = {"verb": verb.name, "filter": wanted}
    if way.dry_run or not way.yes:
        found = client.post("jobs/bulk", {**body, "dry_run": True})
        if way.dry_run or not found["matched"]:
            _tell_matched(found, way.as_json)
            return
        _ask(verb, _matched(found))
    done = client.post("jobs/bulk", body)
    if way.as_json:
        print_json(done)
    else:
        click.echo(f"{number_of(done['done'], 'job')}: {verb.done}.")
    _tell_refused(done)
    if done["refused"]:
        sys.exit(1)


def _tell_matched(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        click.echo(f"{_matched(found)}; nothing was done.")


def _matched(found: dict[str, Any]) -> str:
    matched = found["matched"]
    least = "At least " if found["more"] else ""
    return f"{least}{number_of(matched, 'job')} {'matches' if matched == 1 else 'match'}"


def _ask(verb: Verb, matched: str) -> None:
    if not sys.stdin.isatty():
        raise Invalid(f"{matched}, and nobody is there to be asked.", hint="Add --yes, or --dry-run.")
    gone = " Their results are gone then." if verb.name == "delete" else ""
    click.confirm(f"{matched}.{gone} {verb.name.capitalize()} them?", abort=True)


def _tell_refused(done: dict[str, Any]) -> None:
    refused = done["refused"]
    for each in refused[:REFUSED_SHOWN]:
        click.echo(f"Left as it was: {each['detail']}", err=True)
    if len(refused) > REFUSED_SHOWN:
        click.echo(f"… and {number_of(len(refused) - REFUSED_SHOWN, 'other')} left as they were.", err=True)
    if done["more"]:
        click.echo("More jobs match than are taken at once: run it again.", err=True)


@click.command()
@click.argument("job")
@about_options
@json_option
@with_client
def change(client: Client, job: str, about: dict[str, Any], as_json: bool) -> None:
    """Change label, labels, note or priority of JOB.

    Possible in any state. A new priority counts for what still waits. --labels replaces all of them;
    --labels '' takes them away.
    """
    if not about:
        raise click.UsageError("Say what to change: --label, --labels, --note or --priority.")
    answer = client.patch(at("jobs", job), about)
    if as_json:
        print_json(answer)
        return
    click.echo(f"Job {job}: changed {', '.join(sorted(about))}.")


COMMANDS: list[click.Command] = [*map(_command, VERBS), change]
