"""Follow a job: its states as they pass, progress, and the log while it grows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from labfleet.cli.client import Client, ServerProblem, Unreachable, at
from labfleet.cli.output import STATE_STYLES, local_time

FINAL = frozenset({"success", "failed", "partial", "inapplicable", "cancelled"})
POLL_SECONDS = 0.5
POLL_MAX_SECONDS = 3.0
PATIENCE_SECONDS = 300.0

# What `watch` (and `submit --watch`) ends with, so that scripts can tell.
EXIT_CODES = {"success": 0, "failed": 3, "partial": 4, "inapplicable": 5, "cancelled": 6}
EXIT_FAILED_SYSTEM = 7

Line = Callable[[str], None]


@dataclass
class Watcher:
    """Tells of one job. `show_progress(task)` draws; `line(markup)` prints above it."""

    client: Client
    line: Line
    show_progress: Callable[[dict[str, Any]], None]
    patience: float = PATIENCE_SECONDS
    _seen: dict[str, int] = field(default_factory=dict)
    _offsets: dict[tuple[str, int], int] = field(default_factory=dict)
    _rest: dict[tuple[str, int], bytes] = field(default_factory=dict)

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
            self.line(f"[yellow]{escape(error.detail)} The job goes on; trying again …[/]")
        return now if since is None else since

    def _look(self, job: str) -> tuple[dict[str, Any], bool]:
        state: dict[str, Any] = self.client.get(at("jobs", job))
        news = False
        for task in state["tasks"]:
            news |= self._tell_events(task)
            while self._tell_log(task):
                news = True
                if task["state"] not in FINAL:
                    break  # a long log comes in parts; progress may be told between them
            self.show_progress(task)
        return state, news

    def _tell_events(self, task: dict[str, Any]) -> bool:
        events = self.client.items(at("tasks", task["id"], "events"))
        seen = self._seen.get(task["id"], 0)
        for event in events[seen:]:
            text = _sentence(event, task)
            if text:
                self.line(text)
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
            self.line(f"[dim]│[/] {escape(_printable(line))}")
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


def follow(client: Client, job: str, console: Console, patience: float = PATIENCE_SECONDS) -> dict[str, Any]:
    """Watch `job` on a terminal with a bar, elsewhere line by line; gives the final job."""
    with _display(console) as (line, show):
        return Watcher(client, line, show, patience).follow(job)


@contextmanager
def _display(console: Console) -> Iterator[tuple[Line, Callable[[dict[str, Any]], None]]]:
    if not console.is_terminal:
        yield console.print, _PlainProgress(console)
        return
    columns = (
        TextColumn("{task.fields[protocol]}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.description}[/]"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield progress.console.print, _Bars(progress)


@dataclass
class _Bars:
    progress: Progress
    bars: dict[str, TaskID] = field(default_factory=dict)

    def __call__(self, task: dict[str, Any]) -> None:
        if task["id"] not in self.bars:
            self.bars[task["id"]] = self.progress.add_task("", total=1.0, protocol=escape(task["protocol"]))
        text = escape(task.get("progress_text") or task["state"])
        self.progress.update(self.bars[task["id"]], completed=task["progress"], description=text)


@dataclass
class _PlainProgress:
    console: Console
    last: dict[str, tuple[float, str]] = field(default_factory=dict)

    def __call__(self, task: dict[str, Any]) -> None:
        now = (float(task["progress"]), str(task.get("progress_text") or ""))
        if now != self.last.get(task["id"], (0.0, "")):
            self.console.print(escape(f"{now[0]:>4.0%} {now[1]}"))
        self.last[task["id"]] = now


def exit_code(job: dict[str, Any]) -> int:
    """What a script is told of a final job: 0 success, 3 failed, 7 failed by Labfleet's own fault, …"""
    ours = any(task.get("failure") == "system" for task in job["tasks"])
    if job["state"] == "failed" and ours:
        return EXIT_FAILED_SYSTEM
    return EXIT_CODES.get(job["state"], 1)
