"""Measure the figures of speed on a deployed lab: `./lab bench [row…]`.

Prints a table of ratios and writes `.lab/bench.json`. Exit code 1 when something could not be measured;
a missed aim is shown, not an error: a busy machine misses it too.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from acceptance.lab import REPOSITORY, Lab, inventory_path, load
from rich.console import Console

from benchmarks import answers, backlog, deploying, noop, painting, scheduling, throughput
from benchmarks.figures import Figure, keep, show

ROWS: dict[str, Callable[[Lab], Iterator[Figure]]] = {
    "23": scheduling.figures,
    "24": throughput.publishing,
    "25": throughput.running,
    "26": noop.figures,
    "27": backlog.figures,
    "28": deploying.first,
    "29": deploying.second,
    "30": answers.figures,
    "paint": painting.figures,
}


def main() -> int:
    """Measure the rows that were asked for, all by default."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "rows", nargs="*", help=f"rows of the table of proofs: {', '.join(ROWS)} (default: all)"
    )
    rows = parser.parse_args().rows or list(ROWS)
    console, lab = Console(), load(inventory_path())
    figures: list[Figure] = []
    failed = 0
    for row in rows:
        console.print(f"row {row} …")
        try:
            figures += ROWS[row](lab)
        except Exception:
            failed += 1
            traceback.print_exc()
    show(figures, console)
    keep(figures, REPOSITORY / ".lab" / "bench.json")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
