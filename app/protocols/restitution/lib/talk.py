"""What Labfleet gives and takes: parameters, inputs, progress, tables, and how a run ends."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

INAPPLICABLE = 65


class Inapplicable(Exception):
    """The protocol does not apply to what it was given; the message says what is missing."""


class Broken(Exception):
    """An input has a fault, or can't be computed; the message says where."""


def run(main: Callable[[dict[str, Any]], None]) -> int:
    """0 done, 1 something is wrong, 65 the protocol does not apply; the reason in one line."""
    path = Path(os.environ["LABFLEET_PARAMETERS"])
    try:
        main(json.loads(path.read_text(encoding="utf-8")))
    except (Broken, Inapplicable) as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return INAPPLICABLE if isinstance(error, Inapplicable) else 1
    progress(1.0, "done")
    return 0


def input_or_sample(slot: str, sample: str) -> Path:
    """The file in this slot; the protocol's own sample without one."""
    path = optional_input(slot)
    if path is not None:
        return path
    print(f"No input: the protocol's own {sample} is taken.")
    return Path(sample)


def optional_input(slot: str) -> Path | None:
    """The file in this slot, if there is one."""
    path = Path(os.environ["LABFLEET_INPUTS"], slot)
    return path if path.exists() else None


def progress(share: float, text: str) -> None:
    """Tell Labfleet how far we are."""
    with Path(os.environ["LABFLEET_PROGRESS"]).open("a", encoding="utf-8") as file:
        file.write(f"{share:.2f} {text}\n")


def write_csv(name: str, head: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    """A table among the outputs. Numbers have nine digits: more than any solver's tolerance is worth."""
    with Path(os.environ["LABFLEET_OUTPUTS"], name).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        writer.writerows([_cell(value) for value in row] for row in rows)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.9g}" if isinstance(value, float) else str(value)
