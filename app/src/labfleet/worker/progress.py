"""What an attempt says of its progress: lines `0.40 text`, appended to a file. The last good one counts."""

from __future__ import annotations

import math
from pathlib import Path

TAIL_BYTES = 4096
MAX_TEXT = 200
Progress = tuple[float, str]


def parse(line: str) -> Progress | None:
    """Fraction (kept within 0 and 1) and text; None for a line that says nothing."""
    number, _, text = line.strip().partition(" ")
    try:
        fraction = float(number)
    except ValueError:
        return None
    if not math.isfinite(fraction):
        return None
    printable = "".join(char if char.isprintable() else " " for char in text.strip())
    return min(max(fraction, 0.0), 1.0), printable[:MAX_TEXT]


def read(path: Path) -> Progress | None:
    """The latest progress in the file; None if there is none."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL_BYTES))
        tail = file.read(TAIL_BYTES)
    # A line without its end is still being written.
    complete = tail.rpartition(b"\n")[0].decode(errors="replace").splitlines()
    return next((found for line in reversed(complete) if (found := parse(line))), None)
