"""Write the summary: a table for machines, a text for people."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from column import FIELDS


def write_csv(path: Path, summaries: list[dict[str, Any]]) -> None:
    """A row for each column, numbers in full precision."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        writer.writerows(summaries)


def write_text(path: Path, rows: int, summaries: list[dict[str, Any]]) -> None:
    """A paragraph for each column."""
    lines = [f"{rows} rows, {len(summaries)} columns", ""]
    for summary in summaries:
        missing = f", {summary['missing']} missing" if summary["missing"] else ""
        lines.append(f"{summary['column']}: {summary['type']}, {summary['count']} values{missing}")
        lines += [f"    {line}" for line in _details(summary)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _details(summary: dict[str, Any]) -> list[str]:
    if summary["type"] in ("integer", "number"):
        spread = "" if summary["sd"] == "" else f", sd {summary['sd']:.6g}"
        quartiles = " | ".join(f"{summary[name]:.6g}" for name in ("min", "q1", "median", "q3", "max"))
        return [f"mean {summary['mean']:.6g}{spread}", f"min | quartiles | max: {quartiles}"]
    return [f"most frequent of {summary['distinct']}: {summary['top']}"] if summary["top"] else []
