"""Crash points: places where the resilience tests let a process die, to see that nothing is lost there.

No unit of the roles sets the variable; a test does it with a systemd drop-in that it removes again.
docs/guarantees.md lists the points. Every tier may use this module, the CGI program may not.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

VARIABLE = "LABFLEET_CRASH_DIRECTORY"


def point(name: str) -> None:
    """Die by SIGKILL if the directory that the variable names has a file of this name.

    The file is removed first, so that of all processes that pass here exactly one dies for it.
    """
    directory = os.environ.get(VARIABLE)
    if not directory:
        return
    try:
        Path(directory, name).unlink()
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.SIGKILL)
