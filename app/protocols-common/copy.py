"""Copy the shared files into the protocols that have them; `--check` only tells which copies differ."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

COMMON = Path(__file__).parent
PROTOCOLS = COMMON.parent / "protocols"


def differing() -> list[tuple[Path, Path]]:
    """Each shared file, and a copy of its name in a protocol, or in its `lib`, that is not the same."""
    masters = {path.name: path for path in COMMON.iterdir() if path.is_file() and path != Path(__file__)}
    places = (path for place in ("*/*", "*/lib/*") for path in sorted(PROTOCOLS.glob(place)))
    pairs = [(masters[path.name], path) for path in places if path.name in masters]
    return [(master, copy) for master, copy in pairs if master.read_bytes() != copy.read_bytes()]


def main(arguments: list[str]) -> int:
    """0 when all copies are the same, or have been made so."""
    found = differing()
    for master, copy in found:
        print(f"{copy.relative_to(COMMON.parent)} differs from {master.relative_to(COMMON.parent)}")
        if "--check" not in arguments:
            shutil.copyfile(master, copy)
    return 1 if found and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
