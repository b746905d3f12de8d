#!/usr/bin/env python3
"""Ask the database of known vulnerabilities (osv.dev) about every package of a bill of materials.

Reads CycloneDX JSON, prints one line for each finding and exits with 1 when there are any, with 3 when the
database can't be reached (then nothing is known), and with 0 when it knows of none.
"""

from __future__ import annotations

import argparse
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

DATABASE = "https://api.osv.dev/v1/querybatch"
BATCH = 500
FOUND, UNREACHED = 1, 3


def main() -> int:
    """Ask, and tell."""
    options = arguments()
    components = json.loads(options.sbom.read_text())["components"]
    try:
        found = findings(options.database, components, options.timeout)
    except (OSError, ValueError) as error:
        print(f"{options.database} can't be asked ({error}): nothing is known of {len(components)} packages.")
        return UNREACHED
    for name, version, numbers in found:
        print(f"{name} {version}: {', '.join(numbers)} (https://osv.dev/vulnerability/{numbers[0]})")
    print(f"{len(components)} packages, {len(found)} with known vulnerabilities.")
    return FOUND if found else 0


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sbom", type=Path, help="bill of materials, CycloneDX JSON")
    parser.add_argument("--database", default=DATABASE, help="where to ask")
    parser.add_argument("--timeout", type=float, default=20, help="seconds for one answer")
    return parser.parse_args()


def findings(
    database: str, components: list[dict[str, Any]], timeout: float
) -> list[tuple[str, str, list[str]]]:
    """Name, version and the numbers of known vulnerabilities, of those that have any."""
    found = []
    for begin in range(0, len(components), BATCH):
        part = components[begin : begin + BATCH]
        queries = {"queries": [{"package": {"purl": component["purl"]}} for component in part]}
        answers = ask(database, queries, timeout)["results"]
        if len(answers) != len(part):
            raise ValueError("it answered something else")
        for component, answer in zip(part, answers, strict=True):
            numbers = sorted(entry["id"] for entry in answer.get("vulns") or [])
            if numbers:
                found.append((component["name"], component["version"], numbers))
    return found


def ask(database: str, body: dict[str, Any], timeout: float) -> dict[str, Any]:
    """One question."""
    request = urllib.request.Request(  # noqa: S310  # the admin names the database
        database, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=timeout) as answer:  # noqa: S310
        told: dict[str, Any] = json.load(answer)
    return told


if __name__ == "__main__":
    sys.exit(main())
