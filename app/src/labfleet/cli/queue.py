"""`labfleet queue worker quota reservation`: what waits and why, and what an admin says about it."""

from __future__ import annotations

from typing import Any

import click

from labfleet.cli.catalogue import workers as list_workers
from labfleet.cli.client import Client, ServerProblem, at
from labfleet.cli.output import (
    console,
    json_option,
    number_of,
    print_json,
    size_text,
    table,
    with_client,
)
from labfleet.errors import Invalid
from labfleet.protocols.quantities import bytes_of

NO_LIMIT = "none"


class Limit(click.ParamType[int | str]):
    """A number, or a size such as 500G; `none` stays as it is, for None means that nothing was said."""

    def __init__(self, *, size: bool = False) -> None:
        self.name = "size" if size else "number"
        self._read = bytes_of if size else int
        self._example = "500G" if size else "8"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """The number, or `none`."""
        if value == NO_LIMIT:
            return NO_LIMIT
        try:
            return self._read(value)
        except ValueError:
            self.fail(f"'{value}' is no {self.name}; write {self._example}, or {NO_LIMIT}.", param, ctx)


@click.group()
def queue() -> None:
    """What waits for a worker, in which order, and why."""


@queue.command("list")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@json_option
@with_client
def queue_list(client: Client, limit: int, as_json: bool) -> None:
    """List the waiting tasks in the order in which they run: yours, an admin sees all."""
    items = client.items("queue", limit=limit)
    if as_json:
        print_json(items)
        return
    rows = [
        (
            item["place"] if item["place"] is not None else "?",
            item["job"],
            item["owner"],
            item["priority"],
            f"{item['share']:.2g}",
            needs_text(item["needs"]),
        )
        for item in items
    ]
    table(("place", "job", "owner", "priority", "share", "needs"), rows, "Nothing waits for a worker.")


@queue.command("explain")
@click.argument("job")
@json_option
@with_client
def queue_explain(client: Client, job: str, as_json: bool) -> None:
    """Tell why the tasks of JOB wait."""
    items = client.items(at("jobs", job, "queue"))
    if as_json:
        print_json(items)
        return
    if not items:
        click.echo("Nothing of this job waits.", err=True)
        return
    out = console()
    for item in items:
        out.print(f"{number_of(item['count'], 'task')} with {needs_text(item['needs'])}", style="bold")
        out.print(f"  {item['reason']['message']}", f"({item['reason']['code']})", markup=False)


def needs_text(needs: dict[str, Any]) -> str:
    """What a task needs, in one line."""
    parts = [
        needs["key"],
        number_of(needs["cores"], "core"),
        size_text(needs["memory_bytes"]),
        f"{needs['wall_seconds']} s",
    ]
    return ", ".join(parts + [f"tag {tag}" for tag in needs["tags"]])


@click.group()
def worker() -> None:
    """The workers: list, drain and use them again."""


worker.add_command(list_workers, "list")


@worker.command("drain")
@click.argument("name", metavar="WORKER")
@json_option
@with_client
def worker_drain(client: Client, name: str, as_json: bool) -> None:
    """Give WORKER no new tasks. What runs there goes on; what only waits there runs elsewhere."""
    _worker_done(client.post(at("workers", name, "drain")), as_json, "gets no new tasks")


@worker.command("resume")
@click.argument("name", metavar="WORKER")
@json_option
@with_client
def worker_resume(client: Client, name: str, as_json: bool) -> None:
    """Give the drained WORKER tasks again."""
    _worker_done(client.post(at("workers", name, "resume")), as_json, "gets tasks again")


def _worker_done(answer: dict[str, Any], as_json: bool, done: str) -> None:
    if as_json:
        print_json(answer)
        return
    click.echo(f"{answer['name']} {done}; {number_of(answer['taken'], 'task')} on it now.")


@worker.command("remove")
@click.argument("name", metavar="WORKER")
@with_client
def worker_remove(client: Client, name: str) -> None:
    """Forget WORKER, which is gone for good; one that still reports is refused."""
    client.delete(at("workers", name))
    click.echo(f"{name} is forgotten.")


@click.group()
def quota() -> None:
    """What users and groups may have at a time."""


@quota.command("show")
@click.argument("user", required=False)
@click.option("--group", metavar="NAME", help="Show a group's quota and its users.")
@json_option
@with_client
def quota_show(client: Client, user: str | None, group: str | None, as_json: bool) -> None:
    """Show what USER (you, without it) or a group may have, and has."""
    if user and group:
        raise Invalid("A user or a group, not both.", hint="Leave one of them out.")
    if group:
        answer = client.get(at("groups", group))
    else:
        answer = client.get(at("users", user or client.get("me")["name"], "quota"))
    _show_quota(answer, as_json)


@quota.command("set")
@click.argument("user", required=False)
@click.option("--group", metavar="NAME", help="Set a group's quota; the group is made if there is none.")
@click.option("--max-running", type=Limit(), help="Tasks at a time on the workers, or none.")
@click.option("--max-cores", type=Limit(), help="Cores of these tasks, or none.")
@click.option("--max-stored", type=Limit(size=True), help="Datasets and results, such as 500G, or none.")
@click.option("--weight", type=float, help="Part in the fair share: 2 is twice as much as 1.")
@click.option("--max-priority", type=int, help="Highest priority that the user may give a job.")
@click.option("--member-of", metavar="GROUP", help="Put the user into this group, or none.")
@json_option
@with_client
def quota_set(  # noqa: PLR0917 - click gives one argument for each option
    client: Client,
    user: str | None,
    group: str | None,
    max_running: int | str | None,
    max_cores: int | str | None,
    max_stored: int | str | None,
    weight: float | None,
    max_priority: int | None,
    member_of: str | None,
    as_json: bool,
) -> None:
    """Set what USER or a group may have; what is not named stays."""
    limits = _said(max_running=max_running, max_cores=max_cores, max_stored_bytes=max_stored)
    own = _said(weight=weight, max_priority=max_priority, group=member_of)
    if bool(user) == bool(group) or (group and own):
        raise Invalid(
            "One user, or one group with limits only.",
            hint="labfleet quota set USER …, or labfleet quota set --group NAME --max-…",
        )
    if user:
        _show_quota(client.patch(at("users", user, "quota"), limits | own), as_json)
    elif group:
        _show_quota(client.put(at("groups", group), _group_limits(client, group) | limits), as_json)


def _said(**values: Any) -> dict[str, Any]:
    """The options that were used, `none` as null."""
    return {key: None if value == NO_LIMIT else value for key, value in values.items() if value is not None}


def _group_limits(client: Client, name: str) -> dict[str, Any]:
    try:
        known = client.get(at("groups", name))
    except ServerProblem as error:
        if error.status != 404:
            raise
        known = {}
    return {key: value for key, value in known.items() if key.startswith("max_")}


@quota.command("remove")
@click.argument("group", metavar="GROUP")
@with_client
def quota_remove(client: Client, group: str) -> None:
    """Remove GROUP; its users stay, without a group."""
    client.delete(at("groups", group))
    click.echo(f"The group {group} is removed.")


def _show_quota(answer: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(answer)
        return
    if "user" in answer:
        click.echo(f"{answer['user']}, group {answer['group'] or '-'}, weight {answer['weight']:g}")
    else:
        click.echo(f"group {answer['name']}: {', '.join(answer['users']) or 'no users'}")
    rows = [
        ("tasks on workers", answer.get("running"), _limit(answer["max_running"])),
        ("their cores", answer.get("cores"), _limit(answer["max_cores"])),
        ("stored", _size(answer.get("stored_bytes")), _size(answer["max_stored_bytes"]) or "no limit"),
    ]
    if "user" in answer:
        rows.append(("priority of a job", None, answer["max_priority"]))
    table(("", "in use", "at most"), rows, "")


def _limit(value: int | None) -> int | str:
    return "no limit" if value is None else value


def _size(value: int | None) -> str | None:
    return None if value is None else size_text(value)


@click.group()
def reservation() -> None:
    """Slots of the fleet that are kept free for tasks of one key."""


@reservation.command("list")
@json_option
@with_client
def reservation_list(client: Client, as_json: bool) -> None:
    """List the reservations."""
    items = client.items("reservations")
    if as_json:
        print_json(items)
        return
    table(("key", "slots"), [(item["key"], item["slots"]) for item in items], "Nothing is reserved.")


@reservation.command("set")
@click.argument("key")
@click.argument("slots", type=int)
@json_option
@with_client
def reservation_set(client: Client, key: str, slots: int, as_json: bool) -> None:
    """Keep the last SLOTS free slots of the workers that serve KEY for tasks of KEY."""
    answer = client.put(at("reservations", key), {"slots": slots})
    if as_json:
        print_json(answer)
        return
    click.echo(f"The last {number_of(answer['slots'], 'free slot')} are kept for '{answer['key']}'.")


@reservation.command("remove")
@click.argument("key")
@with_client
def reservation_remove(client: Client, key: str) -> None:
    """Keep nothing for KEY any more."""
    client.delete(at("reservations", key))
    click.echo(f"Nothing is kept for '{key}' any more.")


COMMANDS: list[click.Command] = [queue, worker, quota, reservation]
