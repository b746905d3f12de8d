"""How the user's verbs print: tables and colours for people, JSON for scripts."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from labfleet.cli.client import Client
from labfleet.cli.credentials import load

R = TypeVar("R")

# So wide that nothing is cut off when the output goes into a pipe.
PIPE_WIDTH = 1000
STATE_STYLES = {
    "queued": "yellow",
    "running": "cyan",
    "success": "green",
    "failed": "red",
    "partial": "magenta",
    "inapplicable": "blue",
    "cancelled": "dim",
    "skipped": "dim",
    "held": "yellow",
}

json_option = click.option("--json", "as_json", is_flag=True, help="Print the server's JSON, for scripts.")


def console() -> Console:
    """Standard output; colours and widths only where somebody looks."""
    out = Console(highlight=False, soft_wrap=True)
    if not out.is_terminal:
        out.width = PIPE_WIDTH
    return out


def connect() -> Client:
    """A client for the server that the user signed in to."""
    known = load()
    return Client(known.url, known.token, known.ca_file)


def with_client(function: Callable[..., R]) -> Callable[..., R]:
    """Give a command the client as its first argument, and close it."""

    @functools.wraps(function)
    def run(*arguments: Any, **options: Any) -> R:
        with connect() as client:
            return function(client, *arguments, **options)

    return run


def print_json(value: Any) -> None:
    """One JSON document."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def state_text(state: str) -> Text:
    """A state in its colour."""
    return Text(state, style=STATE_STYLES.get(state, ""))


def table(columns: Iterable[str], rows: Iterable[Iterable[Any]], empty: str) -> None:
    """A table, or the line `empty` that says what to do."""
    listed = [[cell if isinstance(cell, Text) else Text(_cell(cell)) for cell in row] for row in rows]
    if not listed:
        click.echo(empty, err=True)
        return
    first, *others = columns
    # The first column is what other commands take: it is never cut.
    folded = [Column(name, overflow="fold") for name in others]
    grid = Table(Column(first, no_wrap=True), *folded, box=None, pad_edge=False, header_style="bold")
    for row in listed:
        grid.add_row(*row)
    console().print(grid)


def _cell(value: Any) -> str:
    return "" if value is None else str(value)


def local_time(value: str | None) -> str:
    """An ISO time as this machine's clock shows it."""
    if not value:
        return ""
    return datetime.fromisoformat(value).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def time_text(seconds: float) -> str:
    """A length of time in the units that a person would choose."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [f"{days} d", f"{hours} h", f"{minutes} min", f"{rest} s"]
    told = [part for part in parts if not part.startswith("0 ")][:2]
    return " ".join(told) or f"{seconds:.1f} s"


def span_text(start: str | None, end: str | None) -> str:
    """How long it took, or takes so far; nothing for what has not begun."""
    if not start:
        return ""
    until = datetime.fromisoformat(end) if end else datetime.now(UTC)
    return time_text(max((until - datetime.fromisoformat(start)).total_seconds(), 0))


def number_of(number: int, what: str) -> str:
    """`1 task`, `2 tasks`."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def size_text(size: int) -> str:
    """Bytes in the unit that a person would choose."""
    amount = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"
