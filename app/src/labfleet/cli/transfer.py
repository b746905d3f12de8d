"""Bars for what takes its time on the wire."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from labfleet.cli.client import Client
from labfleet.cli.client import Progress as Tell


@contextmanager
def bar(text: str, total: int, done: int = 0) -> Iterator[Tell]:
    """A bar on standard error while `total` bytes move; nothing where nobody looks."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    error = Console(stderr=True)
    with Progress(*columns, console=error, transient=True, disable=not error.is_terminal) as progress:
        task = progress.add_task(escape(text), total=total, completed=done)
        yield lambda count: progress.advance(task, count)


def upload_with_bar(client: Client, path: Path, name: str | None = None, **about: Any) -> dict[str, Any]:
    """Upload a file, with what is told about it; gives the dataset."""
    with bar(f"upload {path.name}", path.stat().st_size) as tell:
        return client.upload(path, name, tell, **about)
