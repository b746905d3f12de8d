# ruff: noqa: S608 - the only names in the statement are ours
"""The process that makes a Parquet file of a table: `python -m labfleet.fetching.convert`.

Reads `{"path", "parts", "format", "sheet", "columns", "steps", "work", "memory_bytes", "disk_bytes"}` from
standard input (`parts`: `{"path", "name", "format"}` of several files in the directory `path`) and writes
`{"rows", "columns", "notes"}` or `{"message"}` to standard output; the file is `table.parquet` in `work`. The
table is whatever a server sent: as for a preview, this process has no secret, no network and no other files.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from labfleet.datasets.confine import SPARE_BYTES, bound, confine, system
from labfleet.datasets.profile import Bounds, Unreadable, as_text, columns_of, loaded, single, typed
from labfleet.datasets.tables import Format
from labfleet.fetching.joining import Part, complete, joined
from labfleet.fetching.transform import transform

MOST_COLUMNS = 100_000
RESULT = "table.parquet"


def main() -> None:
    """Convert the table that standard input names."""
    asked = json.load(sys.stdin)
    path, work = Path(asked["path"]), Path(asked["work"])
    bound(asked["memory_bytes"] + SPARE_BYTES, asked["disk_bytes"])
    confine(read=[path, *system()], write=[work])
    told: dict[str, Any]
    try:
        told = convert(asked)
    except Unreadable as error:
        told = {"message": str(error)}
    except (MemoryError, OSError) as error:
        told = {"message": f"It takes more than there is for reading a table: {error or 'memory'}."}
    json.dump(told, sys.stdout)


def convert(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Make the file; what came out. `Unreadable` names what is wrong with the table or a step, and where."""
    path, work = Path(asked["path"]), Path(asked["work"])
    bounds = Bounds(asked["memory_bytes"], rows=0, columns=MOST_COLUMNS)
    if asked.get("parts"):
        parts = [Part(Path(each["path"]), each["name"], Format(each["format"])) for each in asked["parts"]]
        reading = joined(parts, work, bounds, asked.get("sheet"))
    elif asked.get("columns"):
        reading = typed(path, asked["columns"], work, bounds)
    else:
        reading = loaded(path, Format(asked["format"]), work, bounds, asked.get("sheet"))
    with reading as (duck, told):
        complete(told)
        table = transform(duck, asked.get("steps") or [])
        rows = single(duck, f"SELECT count(*) FROM {table}")
        columns = len(columns_of(duck, table))
        target = as_text(str(work / RESULT))
        duck.execute(f"COPY {table} TO {target} (FORMAT parquet, COMPRESSION zstd)")
    return {"rows": rows, "columns": columns, "notes": told.get("notes", [])}


if __name__ == "__main__":
    main()
