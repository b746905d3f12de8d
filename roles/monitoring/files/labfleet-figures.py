#!/usr/bin/python3
"""Figures of a machine that has none of our processes: when certificates end, and when a backup succeeded last.

    labfleet-figures --out FILE [--certificate FILE]... [--backup-status FILE]

The exporter of the machine tells Prometheus what stands in the file, under the names that `labfleet metrics` gives them
on the other machines. Standard library only. A certificate that is not there or can't be read is left out, and told.
"""

from __future__ import annotations

import argparse
import json
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

OPENSSL_SECONDS = 10


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="what the exporter reads")
    parser.add_argument("--certificate", type=Path, action="append", default=[])
    parser.add_argument("--backup-status", type=Path, help="what the last backup has left, as JSON")
    options = parser.parse_args()
    lines = [*certificates(options.certificate), *backup(options.backup_status)]
    replace(options.out, "".join(f"{line}\n" for line in lines))
    return 0


def certificates(paths: list[Path]) -> Iterator[str]:
    """When each of them ends."""
    yield "# HELP labfleet_certificate_end_seconds When the certificate ends (since 1970)."
    yield "# TYPE labfleet_certificate_end_seconds gauge"
    for path in paths:
        try:
            yield f"labfleet_certificate_end_seconds{{file={json.dumps(str(path))}}} {end(path)}"
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            print(f"{path} can't be read: {error}", file=sys.stderr)


def end(path: Path) -> int:
    """When the certificate ends, in seconds since 1970."""
    command = ["openssl", "x509", "-noout", "-enddate", "-in", str(path)]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=OPENSSL_SECONDS).stdout
    return int(ssl.cert_time_to_seconds(said.strip().partition("=")[2]))


def backup(path: Path | None) -> Iterator[str]:
    """When a backup succeeded last, where this machine makes some; 0: never, or nobody can tell."""
    if path is None or not path.is_file():
        return
    try:
        last = float(json.loads(path.read_text(encoding="utf-8")).get("succeeded_at") or 0)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        print(f"{path} can't be read: {error}", file=sys.stderr)
        last = 0.0
    yield "# HELP labfleet_backup_success_seconds When a backup succeeded last (since 1970; 0: never)."
    yield "# TYPE labfleet_backup_success_seconds gauge"
    yield f"labfleet_backup_success_seconds {last:.0f}"


def replace(path: Path, text: str) -> None:
    """Put the file in place by one rename: the exporter never reads half of it."""
    partial = path.with_name(f".{path.name}-new")
    partial.write_text(text, encoding="utf-8")
    partial.chmod(0o644)
    os.replace(partial, path)


if __name__ == "__main__":
    sys.exit(main())
