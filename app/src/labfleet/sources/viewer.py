"""Have a table looked through by a process of its own (`labfleet.datasets.preview`), within bounds."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labfleet.config import DataSection
from labfleet.datasets.store import BlobStore
from labfleet.datasets.tables import Format

BEAT = 0.5
PREFIX = "labfleet-preview-"
ANSWER_BYTES = 8 * 1024**2


class Interrupted(Exception):
    """It was stopped before its end, by us."""


class Broken(Exception):
    """The process ended without an answer."""


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
        return _answer(asked, Path(work), section.preview_seconds, beat)


def _answer(asked: dict[str, Any], work: Path, seconds: float, beat: Callable[[], bool]) -> Outcome:
    answer = work / "answer"
    with answer.open("wb") as out:
        # No environment, so no credentials' directory and no configuration.
        process = subprocess.Popen(
            [sys.executable, "-I", "-m", "labfleet.datasets.preview"],
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=subprocess.DEVNULL,
            env={"HOME": str(work), "TMPDIR": str(work), "LC_ALL": "C.UTF-8"},
            cwd=work,
        )
        try:
            if not _ended(process, json.dumps(asked).encode(), seconds, beat):
                return Outcome(None, f"Looking through it took longer than {seconds:g} seconds.")
        finally:
            process.kill()
            process.wait()
    if process.returncode != 0 or answer.stat().st_size > ANSWER_BYTES:
        raise Broken(f"ended with {process.returncode}")
    told = json.loads(answer.read_bytes())
    return Outcome(told.get("preview"), told.get("message", ""))


def _ended(process: subprocess.Popen[bytes], asked: bytes, seconds: float, beat: Callable[[], bool]) -> bool:
    """Whether it ended in time."""
    if process.stdin is not None:
        try:
            process.stdin.write(asked)
            process.stdin.close()
        except BrokenPipeError:
            return True
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if not beat():
            raise Interrupted
        try:
            process.wait(min(BEAT, max(until - time.monotonic(), 0.01)))
        except subprocess.TimeoutExpired:
            continue
        return True
    return False
