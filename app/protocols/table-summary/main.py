"""Summarise a table. Reads and writes where the LABFLEET_* variables say; see README.md."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from report import write_csv, write_text
from table import BrokenTable, NoTable, read_table

INAPPLICABLE = 65


def main() -> int:
    """0 done, 1 the table is broken, 65 the file is no table."""
    parameters = json.loads(Path(os.environ["LABFLEET_PARAMETERS"]).read_text(encoding="utf-8"))
    source = Path(os.environ["LABFLEET_INPUTS"]) / "table"
    outputs = Path(os.environ["LABFLEET_OUTPUTS"])
    try:
        table = read_table(source, parameters["delimiter"], frozenset(parameters["missing"]), progress)
    except NoTable as error:
        print(error, file=sys.stderr)
        return INAPPLICABLE
    except BrokenTable as error:
        print(error, file=sys.stderr)
        return 1
    progress(0.9, "writing the summary")
    summaries = [column.summary(parameters["top"]) for column in table.columns]
    write_csv(outputs / "summary.csv", summaries)
    write_text(outputs / "summary.txt", table.rows, summaries)
    print(f"{table.rows} rows, {len(table.columns)} columns")
    progress(1.0, "done")
    return 0


def progress(share: float, text: str) -> None:
    """Tell Labfleet how far we are."""
    with Path(os.environ["LABFLEET_PROGRESS"]).open("a", encoding="utf-8") as file:
        file.write(f"{share:.2f} {text}\n")


if __name__ == "__main__":
    sys.exit(main())
