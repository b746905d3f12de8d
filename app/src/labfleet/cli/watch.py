"""`labfleet watch`: follow a job, its states as they pass, progress, and the log while it grows.

Of a job of several tasks it tells how many stand where, what runs, and what goes wrong.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import click
from rich.console import Console
from rich.markup import escape

from labfleet.cli.client import Client, ServerProblem, Unreachable, at
from labfleet.cli.display import Display, display_on
from labfleet.cli.output import STATE_STYLES, console, json_option, local_time, print_json, with_client
from labfleet.cli.tree import WRONG, counts_text

FINAL = frozenset({"success", "failed", "partial", "inapplicable", "cancelled"})
POLL_SECONDS = 0.5
POLL_MAX_SECONDS = 3.0
PATIENCE_SECONDS = 300.0

# What `watch` (and `submit --watch`) ends with, so that scripts can tell.
EXIT_CODES = {"success": 0, "failed": 3, "partial": 4, "inapplicable": 5, "cancelled": 6}
EXIT_FAILED_SYSTEM = 7

# So many failures of a job of many tasks are told one by one.
FAILURES_TOLD = 20
# Reasons to wait that pass by themselves within seconds, or that the tree says already.
_NO_NEWS = frozenset({"next", "placed", "waits_for_earlier_tasks"})


@dataclass
class Watcher:
    """Tells of one job, on `display`."""

    client: Client
    display: Display
    patience: float = PATIENCE_SECONDS
    _seen: dict[str, int] = field(default_factory=dict)
    _offsets: dict[tuple[str, int], int] = field(default_factory=dict)
    _rest: dict[tuple[str, int], bytes] = field(default_factory=dict)
    _reason: str = ""
    _counts: Mapping[str, int] = field(default_factory=dict)
    _failures: dict[str, int] = field(default_factory=dict)

    def follow(self, job: str) -> dict[str, Any]:
        """Until the job is final; gives it. An outage is waited for, up to `patience` seconds."""
        pause, away = POLL_SECONDS, None
        while True:
            try:
                state, news = self._look(job)
            except (Unreachable, ServerProblem) as error:
                away = self._outage(error, away)
            else:
                away = None
                if state["state"] in FINAL:
                    return state
                pause = POLL_SECONDS if news else min(pause * 1.3, POLL_MAX_SECONDS)
            time.sleep(pause)

    def _outage(self, error: LabfleetProblem, since: float | None) -> float:
        now = time.monotonic()
        if (isinstance(error, ServerProblem) and error.status < 500) or (
            since is not None and now - since > self.patience
        ):
            raise error
        if since is None:
            self.display.line(f"[yellow]{escape(error.detail)} The job goes on; trying again …[/]")
        return now if since is None else since

    def _look(self, job: str) -> tuple[dict[str, Any], bool]:
        state: dict[str, Any] = self.client.get(at("jobs", job))
        self._tell_reason(state)
        if state["counts"]["total"] > 1:
            return state, self._tell_tree(state)
        news = False
        for task in state["tasks"]:
            news |= self._tell_events(task)
            while self._tell_log(task):
                news = True
                if task["state"] not in FINAL:
                    break  # a long log comes in parts; progress may be told between them
            self.display.progress(task)
        return state, news

    def _tell_reason(self, job: dict[str, Any]) -> None:
        """Say once why a job waits of which nothing runs."""
        reasons = [task["reason"] for task in job["tasks"] if task["reason"]]
        told = next((reason for reason in reasons if reason["code"] not in _NO_NEWS), None)
        if told is None or job["counts"]["running"] or told["code"] == self._reason:
            return
        self._reason = told["code"]
        advice = f" ('labfleet resume {job['id']}' lets it run)" if told["code"] == "held" else ""
        self.display.line(f"[dim]  waits: {escape(told['message'])}{advice}[/]")

    def _tell_tree(self, job: dict[str, Any]) -> bool:
        counts = job["counts"]
        if counts == self._counts and not counts["running"]:
            return False
        tasks = at("jobs", job["id"], "tasks")
        if counts != self._counts:
            self._tell_failures(tasks, counts)
        some = self.display.bars if counts["running"] else 0
        running = self.client.items(tasks, state="running", limit=some) if some else []
        self.display.tree(job, running)
        news = bool(counts != self._counts)
        self._counts = counts
        return news

    def _tell_failures(self, tasks: str, counts: Mapping[str, int]) -> None:
        """Say what has gone wrong since the last look; a task that fails once more is told once more."""
        if not any(counts[name] for name in (*WRONG, "forgiven")):
            return
        for state in WRONG:
            for task in self.client.items(tasks, state=state, limit=FAILURES_TOLD):
                known = self._failures.get(task["id"]) == task["attempt"]
                if known or len(self._failures) >= FAILURES_TOLD:
                    continue
                self._failures[task["id"]] = task["attempt"]
                self.display.line(_failure(task))

    def _tell_events(self, task: dict[str, Any]) -> bool:
        events = self.client.items(at("tasks", task["id"], "events"))
        seen = self._seen.get(task["id"], 0)
        for event in events[seen:]:
            text = _sentence(event, task)
            if text:
                self.display.line(text)
        self._seen[task["id"]] = len(events)
        return len(events) > seen

    def _tell_log(self, task: dict[str, Any]) -> bool:
        if task["state"] == "queued":
            return False
        which = (task["id"], task["attempt"])
        offset = self._offsets.get(which, 0)
        chunk = self.client.log(task["id"], offset)
        self._offsets[which] = offset + len(chunk)
        *lines, rest = (self._rest.get(which, b"") + chunk).split(b"\n")
        if rest and task["state"] in FINAL:
            lines, rest = [*lines, rest], b""
        self._rest[which] = rest
        for line in lines:
            self.display.line(f"[dim]│[/] {escape(_printable(line))}")
        return bool(chunk)


LabfleetProblem = Unreachable | ServerProblem


def _printable(line: bytes) -> str:
    """A line of somebody's program: no control sequence of it may reach the terminal."""
    text = line.decode("utf-8", "replace").rsplit("\r", 1)[-1].expandtabs()
    return "".join(char if char.isprintable() else "�" for char in text)


def _sentence(event: dict[str, Any], task: dict[str, Any]) -> str:
    to, old = event.get("to_state"), event.get("from_state")
    if not to or to == old:
        return ""
    at = local_time(event.get("at"))[11:]
    style = STATE_STYLES.get(to, "")
    where = f" on {escape(task['worker'])}" if to == "running" and task.get("worker") else ""
    again = f" (attempt {event['attempt']})" if (event.get("attempt") or 1) > 1 else ""
    return f"[dim]{at}[/] [{style}]{to}[/]{where}{again}"


def _failure(task: dict[str, Any]) -> str:
    at_ = local_time(task["finished_at"])[11:]
    style = STATE_STYLES[task["state"]]
    told = escape(_printable(task["message"].encode()))
    return f"[dim]{at_}[/] [{style}]{task['state']}[/] {escape(task['name'])}: {told}"


def follow(client: Client, job: str, out: Console, patience: float = PATIENCE_SECONDS) -> dict[str, Any]:
    """Watch `job` on a terminal with bars, elsewhere line by line; gives the final job."""
    with display_on(out) as display:
        return Watcher(client, display, patience).follow(job)


@click.command()
@click.argument("job")
@click.option(
    "--patience",
    type=float,
    default=PATIENCE_SECONDS,
    show_default=True,
    help="How many seconds to wait for a server that is away.",
)
@json_option
@with_client
def watch(client: Client, job: str, patience: float, as_json: bool) -> None:
    """Follow JOB to its end: states, progress, log.

    In a job of several tasks it tells how many stand where, what runs, and what failed.

    Exit codes: 0 success, 3 failed, 4 partial, 5 inapplicable, 6 cancelled, 7 failed by a fault of
    Labfleet itself, 1 any other error. Ctrl-C stops the watching, not the job.
    """
    watch_to_the_end(client, job, as_json, patience)


def watch_to_the_end(client: Client, job: str, as_json: bool, patience: float = PATIENCE_SECONDS) -> None:
    """Follow a job, say how it ended, and end this process with the exit code that tells it."""
    out = console()
    if as_json:
        out.stderr = True
    try:
        final = follow(client, job, out, patience)
    except KeyboardInterrupt:
        click.echo(f"\nThe job goes on. Watch it again: labfleet watch {job}", err=True)
        sys.exit(130)
    if as_json:
        print_json(final)
    lost = list(_lost(client, final))
    if final["counts"]["total"] > 1:
        click.echo(f"Job {final['state']}: {counts_text(final['counts'])}", err=as_json)
    else:
        for task in lost:
            _explain(task)
    sys.exit(exit_code(final, lost))


def _lost(client: Client, job: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Tasks without success: of one task that one, of several those that failed."""
    if job["counts"]["total"] > 1:
        yield from client.items(at("jobs", job["id"], "tasks"), state="failed", limit=FAILURES_TOLD)
    else:
        yield from (task for task in job["tasks"] if task["state"] != "success")


def _explain(task: dict[str, Any]) -> None:
    whose = {"user": " (the protocol's or its input's fault)", "system": " (Labfleet's own fault)"}
    where = whose.get(task.get("failure") or "", "")
    click.echo(
        f"{task['protocol']}: {task['state']}{where}: {task.get('message') or 'no reason given'}", err=True
    )


def exit_code(job: dict[str, Any], lost: list[dict[str, Any]]) -> int:
    """What a script is told of a final job: 0 success, 3 failed, 7 failed by Labfleet's own fault, …"""
    ours = any(task.get("failure") == "system" for task in lost)
    if job["state"] == "failed" and ours:
        return EXIT_FAILED_SYSTEM
    return EXIT_CODES.get(job["state"], 1)


COMMANDS: list[click.Command] = [watch]
