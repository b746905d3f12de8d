#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Whether a directory has the files that a list names, whole.

    compare_files.py DIRECTORY < LIST

LIST has lines `SHA256 SIZE`; a file lies at DIRECTORY/<first two characters>/<the rest>. Prints how many there are, and
each that is missing or other than its name; ends with 1 if there is one.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path


def main() -> int:
    """Entry point."""
    directory, wrong, count = Path(sys.argv[1]), 0, 0
    for line in sys.stdin:
        sha256, size = line.split()
        fault = problem(directory / sha256[:2] / sha256[2:], sha256, int(size))
        if fault:
            print(f"{sha256}: {fault}")
        wrong, count = wrong + bool(fault), count + 1
    print(f"{count - wrong} of {count} files are there, whole")
    return int(wrong > 0)


def problem(path: Path, sha256: str, size: int) -> str:
    """What is wrong with the file, or nothing."""
    if not path.is_file():
        return "is missing"
    if path.stat().st_size != size:
        return f"has {path.stat().st_size} bytes and not {size}"
    with path.open("rb") as file:
        return "" if hashlib.file_digest(file, "sha256").hexdigest() == sha256 else "has other content"


if __name__ == "__main__":
    sys.exit(main())
