"""The process that looks through one table: `python -m labfleet.datasets.preview`.

Reads `{"path", "format", "work", "memory_bytes", "rows", "columns", "disk_bytes"}` from standard input and
writes `{"preview": …}` or `{"message": …}` to standard output. The table is whatever somebody sent, so this
process is given no secret, bounds itself, and gives up all files but those two; whoever starts it bounds its
time.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from labfleet.datasets.confine import SPARE_BYTES, bound, confine, system
from labfleet.datasets.profile import Bounds, Unreadable, profile
from labfleet.datasets.tables import Format


def main() -> None:
    """Look through the table that standard input names."""
    asked = json.load(sys.stdin)
    path, work = Path(asked["path"]), Path(asked["work"])
    bound(asked["memory_bytes"] + SPARE_BYTES, asked["disk_bytes"])
    confine(read=[path, *system()], write=[work])
    bounds = Bounds(asked["memory_bytes"], asked["rows"], asked["columns"])
    told: dict[str, Any]
    try:
        told = {"preview": profile(path, Format(asked["format"]), work, bounds)}
    except Unreadable as error:
        told = {"message": str(error)}
    except (MemoryError, OSError) as error:
        told = {"message": f"It takes more than there is for looking through a table: {error or 'memory'}."}
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main()
