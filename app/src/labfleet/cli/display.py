"""How a watched job looks: bars where somebody looks, lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from labfleet.cli.tree import counts_text

Json = Mapping[str, Any]

# With the bar of the whole job, a tree takes so many lines and one more.
MAX_BARS = 8
# Where lines are written, a large job does not fill the file: so many seconds pass between two.
LINE_SECONDS = 5.0


class Display(Protocol):
    """Shows a job. `bars` is how many running tasks it has room for."""

    bars: int

    def line(self, markup: str) -> None:
        """A line that stays."""

    def progress(self, task: Json) -> None:
        """How far the only task is."""

    def tree(self, job: Json, running: Sequence[Json]) -> None:
        """How far a job of several tasks is, and some of those that run."""


@contextmanager
def display_on(console: Console) -> Iterator[Display]:
    """Bars on a terminal, which are gone at the end; lines where it is none."""
    if not console.is_terminal:
        yield _Lines(console)
        return
    columns = (
        TextColumn("{task.fields[name]}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.description}[/]"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield _Bars(progress)


@dataclass
class _Bars:
    _progress: Progress
    _known: dict[str, TaskID] = field(default_factory=dict)
    bars: int = MAX_BARS

    def line(self, markup: str) -> None:
        self._progress.console.print(markup)

    def progress(self, task: Json) -> None:
        self._bar(task["id"], task["protocol"], task["progress"], task.get("progress_text") or task["state"])

    def tree(self, job: Json, running: Sequence[Json]) -> None:
        text = counts_text(job["counts"]).plain
        self._bar(job["id"], f"{job['counts']['total']} tasks", job["progress"], text)
        for gone in self._known.keys() - {job["id"], *(task["id"] for task in running)}:
            self._progress.remove_task(self._known.pop(gone))
        for task in running:
            self._bar(task["id"], task["name"], task["progress"], task["progress_text"] or task["worker"])

    def _bar(self, which: str, name: str, done: float, text: str) -> None:
        if which not in self._known:
            self._known[which] = self._progress.add_task("", total=1.0, name=escape(name))
        self._progress.update(self._known[which], completed=done, description=escape(text))


@dataclass
class _Lines:
    _console: Console
    _last: tuple[float, str] = (0.0, "")
    _told_at: float = 0.0
    bars: int = 0

    def line(self, markup: str) -> None:
        self._console.print(markup)

    def progress(self, task: Json) -> None:
        now = (float(task["progress"]), str(task.get("progress_text") or ""))
        if now != self._last:
            self.line(escape(f"{now[0]:>4.0%} {now[1]}"))
        self._last = now

    def tree(self, job: Json, running: Sequence[Json]) -> None:
        del running
        text = counts_text(job["counts"]).plain
        now = time.monotonic()
        if text == self._last[1] or (self._told_at and now - self._told_at < LINE_SECONDS):
            return
        self._last, self._told_at = (job["progress"], text), now
        self.line(escape(f"{job['progress']:>4.0%} {text}"))
