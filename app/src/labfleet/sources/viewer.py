"""Have a table looked through by a process of its own (`labfleet.datasets.preview`), within bounds."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labfleet.config import DataSection
from labfleet.datasets import apart
from labfleet.datasets.store import BlobStore
from labfleet.datasets.tables import Format

PREFIX = "labfleet-preview-"


@dataclass(frozen=True)
class Outcome:
    """A preview, or why there is none."""

    result: dict[str, Any] | None
    message: str


def clear() -> None:
    """Remove what a process of ours that was killed has left where files on the way lie."""
    for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        shutil.rmtree(left, ignore_errors=True)


def look_through(
    store: BlobStore, sha256: str, form: Format, section: DataSection, beat: Callable[[], bool]
) -> Outcome:
    """The preview of a blob. `beat` is called all the while and says whether to go on (`Interrupted` if not).

    `Broken` when the process was killed or crashed: by the file, or by a machine that is out of memory.
    """
    path = store.existing(sha256)
    size = path.stat().st_size
    if size > section.preview_max_bytes:
        return Outcome(
            None, f"Of files above {section.preview_max_bytes} bytes no preview is made; this one has {size}."
        )
    with tempfile.TemporaryDirectory(prefix=PREFIX) as work:
        asked = {
            "path": str(path),
            "format": form.value,
            "work": work,
            "memory_bytes": section.preview_memory_bytes,
            "disk_bytes": section.preview_disk_bytes,
            "rows": section.preview_rows,
            "columns": section.preview_columns,
        }
        try:
            told = apart.ask("labfleet.datasets.preview", asked, Path(work), section.preview_seconds, beat)
        except apart.TooSlow:
            return Outcome(None, f"Looking through it took longer than {section.preview_seconds:g} seconds.")
    return Outcome(told.get("preview"), told.get("message", ""))
