"""What lies in a worker's directory after environments were built."""

from __future__ import annotations

from pathlib import Path


def kept(work: Path) -> list[Path]:
    """What lies where environments are kept, without their locks."""
    found = (work / "environments").glob("*")
    return sorted(path for path in found if path.suffix != ".lock")
