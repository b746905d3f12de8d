"""`labfleet share unshare`: for whom jobs are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from labfleet.cli.client import Client, at
from labfleet.cli.output import json_option, print_json, with_client


def _whom(function: Callable[..., None]) -> Callable[..., None]:
    groups = click.option("--group", "groups", metavar="NAME", multiple=True, help="A group; repeatable.")
    users = click.option("--user", "users", metavar="NAME", multiple=True, help="A user; repeatable.")
    return users(groups(click.argument("jobs", metavar="JOB…", nargs=-1, required=True)(function)))


@click.command()
@_whom
@click.option("--everybody", is_flag=True, help="Everybody in the lab.")
@json_option
@with_client
def share(  # noqa: PLR0917 - click gives one argument for each option
    client: Client,
    jobs: tuple[str, ...],
    users: tuple[str, ...],
    groups: tuple[str, ...],
    everybody: bool,
    as_json: bool,
) -> None:
    """Let users, groups or everybody look at JOB… and its results.

    They change nothing, and its data are not theirs: see 'labfleet datasets share'.
    """
    _change(client, jobs, ("share", "publish"), {"users": users, "groups": groups}, everybody, as_json)


@click.command()
@_whom
@click.option("--everybody", is_flag=True, help="Everybody but those it is shared with by name or group.")
@json_option
@with_client
def unshare(  # noqa: PLR0917 - click gives one argument for each option
    client: Client,
    jobs: tuple[str, ...],
    users: tuple[str, ...],
    groups: tuple[str, ...],
    everybody: bool,
    as_json: bool,
) -> None:
    """Take JOB… back from users, groups or everybody."""
    _change(client, jobs, ("unshare", "withdraw"), {"users": users, "groups": groups}, everybody, as_json)


def _change(  # noqa: PLR0917 - as above
    client: Client,
    jobs: tuple[str, ...],
    verbs: tuple[str, str],
    whom: dict[str, tuple[str, ...]],
    everybody: bool,
    as_json: bool,
) -> None:
    if not (any(whom.values()) or everybody):
        raise click.UsageError("Say with whom: --user NAME, --group NAME or --everybody.")
    answers = []
    for job in jobs:
        if any(whom.values()):
            answer = client.post(at("jobs", job, verbs[0]), whom)
        if everybody:
            answer = client.post(at("jobs", job, verbs[1]))
        answers.append(answer)
        if not as_json:
            click.echo(f"Job {job}: {for_whom(answer)}.")
    if as_json:
        print_json(answers[0] if len(jobs) == 1 else answers)


def for_whom(job: dict[str, Any]) -> str:
    """For whom a job is, as one line."""
    whom = job["shared_with"] or {"users": [], "groups": []}
    names = ", ".join([*whom["users"], *whom["groups"]])
    return f"{job['visibility']}{f', shared with {names}' if names else ''}"


COMMANDS: list[click.Command] = [share, unshare]
