"""The process that looks through one table: `python -m labfleet.datasets.preview`.

Reads `{"path", "format", "work", "memory_bytes", "rows", "columns", "disk_bytes"}` from standard input and
writes `{"preview": …}` or `{"message": …}` to standard output. The table is whatever somebody sent, so this
process is given no secret, bounds itself, and gives up all files but those two; whoever starts it bounds its
time.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from labfleet.datasets.confine import confine
from labfleet.datasets.profile import Bounds, Unreadable, profile
from labfleet.datasets.tables import Format

# Of address space, beside what DuckDB may use: libraries, its allocator's reserves, a workbook.
SPARE_BYTES = 3 * 1024**3

SYSTEM = [
    # Libraries and time zones.
    *map(Path, ("/usr", "/lib", "/lib64", "/etc/localtime")),
    # DuckDB asks how much memory its control group has.
    *map(Path, ("/proc/self/cgroup", "/sys/fs/cgroup")),
]


def main() -> None:
    """Look through the table that standard input names."""
    asked = json.load(sys.stdin)
    path, work = Path(asked["path"]), Path(asked["work"])
    _bound(asked["memory_bytes"] + SPARE_BYTES, asked["disk_bytes"])
    confine(read=[path, Path(sys.prefix), Path(sys.base_prefix), *SYSTEM], write=[work])
    bounds = Bounds(asked["memory_bytes"], asked["rows"], asked["columns"])
    told: dict[str, Any]
    try:
        told = {"preview": profile(path, Format(asked["format"]), work, bounds)}
    except Unreadable as error:
        told = {"message": str(error)}
    except (MemoryError, OSError) as error:
        told = {"message": f"It takes more than there is for looking through a table: {error or 'memory'}."}
    json.dump(told, sys.stdout)


def _bound(address_space: int, file_size: int) -> None:
    """No more memory and disk than this, no core file; the first to go when the machine has none left."""
    for kind, limit in (
        (resource.RLIMIT_AS, address_space),
        (resource.RLIMIT_FSIZE, file_size),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (limit, limit))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    os.umask(0o077)


if __name__ == "__main__":
    main()
