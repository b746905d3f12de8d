"""`interface` and `check`: an archive of a stranger is read in a process of its own.

The publisher holds the broker's password and serves everybody; whatever an archive does to its
reader ends with that reader, which has little memory, little time and no environment.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from typing import Any, BinaryIO

from labfleet.errors import Invalid, LabfleetError, Unavailable

SECONDS = 10
MEMORY_BYTES = 1024**3
SCRATCH_BYTES = 128 * 1024**2
"""The largest file that the reader may write (an unpacked member of the archive)."""


def inspect(verb: str, archive: BinaryIO) -> tuple[int, dict[str, Any]]:
    """Status and body for an archive; faults are problem documents."""
    with tempfile.TemporaryDirectory(prefix="labfleet-inspect-") as scratch:
        try:
            run = subprocess.run(
                [sys.executable, "-I", "-m", "labfleet.runner.inspection", verb],
                stdin=archive,
                capture_output=True,
                timeout=SECONDS,
                env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "TMPDIR": scratch},
                cwd=scratch,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return _problem(Invalid(f"The archive could not be read within {SECONDS} s."))
    if run.returncode:
        return _problem(Unavailable("The archive's reader ended unexpectedly (out of memory?)."))
    status, body = json.loads(run.stdout)
    return status, body


def read(verb: str, archive: BinaryIO) -> tuple[int, dict[str, Any]]:
    """What `labfleet.protocols` says of the archive."""
    from labfleet.protocols.check import check_archive  # noqa: PLC0415  (not in the publisher)
    from labfleet.protocols.interface import interface_of  # noqa: PLC0415

    try:
        report = check_archive(archive)
        return 200, report.as_dict() if verb == "check" else interface_of(report.require())
    except LabfleetError as error:
        return _problem(error)


def main() -> None:
    """The reader: archive on standard input, JSON on standard output."""
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (SCRATCH_BYTES, SCRATCH_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    json.dump(read(sys.argv[1], sys.stdin.buffer), sys.stdout)


def _problem(error: LabfleetError) -> tuple[int, dict[str, Any]]:
    return int(error.status), error.problem()


if __name__ == "__main__":
    main()
