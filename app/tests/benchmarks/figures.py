"""Figures: a measured value, what it is measured against, and the ratio that is aimed at."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Figure:
    """One line: `value` and `against` in `unit`; `aim` is the largest ratio (or value) that is wanted."""

    row: int | str
    name: str
    value: float
    unit: str
    against: float | None = None
    baseline: str = ""
    aim: float | None = None

    @property
    def ratio(self) -> float | None:
        """How many times the baseline."""
        return self.value / self.against if self.against else None

    @property
    def met(self) -> bool | None:
        """Whether the aim is reached; None when there is none."""
        if self.aim is None:
            return None
        return (self.value if self.ratio is None else self.ratio) <= self.aim


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of all values don't exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def show(figures: Sequence[Figure], console: Console) -> None:
    """The table on the terminal."""
    table = Table("row", "figure", "value", "against", "ratio", "aim", "met")
    for figure in figures:
        table.add_row(*_cells(figure))
    console.print(table)


def _cells(figure: Figure) -> list[str]:
    against = f"{figure.against:.4g} {figure.unit} {figure.baseline}" if figure.against else figure.baseline
    ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}"
    met = {None: "", True: "yes", False: "NO"}[figure.met]
    aim = "" if figure.aim is None else f"≤ {figure.aim:g}{'' if figure.ratio else ' ' + figure.unit}"
    return [str(figure.row), figure.name, f"{figure.value:.4g} {figure.unit}", against, ratio, aim, met]


def keep(figures: Sequence[Figure], file: Path) -> None:
    """Write them as JSON, for comparison with another run."""
    rows = [{**asdict(figure), "ratio": figure.ratio, "met": figure.met} for figure in figures]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(rows, indent=1) + "\n")
