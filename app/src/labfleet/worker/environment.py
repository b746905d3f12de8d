"""What results of this machine depend on: system, kernel, interpreters. Told with each presence and end."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from importlib.metadata import version

INTERPRETERS = {
    "python": ("/usr/bin/python3", "--version"),
    "r": ("Rscript", "--version"),
    "julia": ("julia", "--version"),
    "perl": ("perl", "--version"),
}
"""Each prints its version; those that aren't installed are left out."""
ASK_SECONDS = 10
_VERSION = re.compile(r"\d+(?:\.\d+)+")


def describe() -> dict[str, str]:
    """Names and versions, as they are now; asks each interpreter."""
    found = {
        "os": platform.freedesktop_os_release().get("PRETTY_NAME", "unknown"),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "labfleet": version("labfleet"),
    }
    told = {name: _version(command) for name, command in INTERPRETERS.items()}
    return found | {name: text for name, text in told.items() if text}


def _version(command: tuple[str, ...]) -> str:
    """The version that the program prints; empty if there is no such program."""
    if not shutil.which(command[0]):
        return ""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ASK_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    # R has said it on standard error in some of its versions.
    match = _VERSION.search(done.stdout + done.stderr)
    return match.group() if match else ""
