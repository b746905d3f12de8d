"""R packages that a protocol names: are they installed on this machine, and in which version?"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

LIBRARIES = ("/usr/local/lib/R/site-library", "/usr/lib/R/site-library", "/usr/lib/R/library")
"""Where R looks on Debian, in this order; a sandbox sees all of them."""


class MissingPackages(Exception):
    """Some are not there; the message names them, their likely names in Debian, and the worker."""


def versions(names: Iterable[str], worker: str, libraries: Iterable[str] = LIBRARIES) -> dict[str, str]:
    """The version of each package; `MissingPackages` unless all are there."""
    found = {name: _version(name, libraries) for name in names}
    missing = [name for name, version in found.items() if not version]
    if missing:
        told = ", ".join(f"{name} (Debian: {' or '.join(debian_names(name))})" for name in missing)
        raise MissingPackages(
            f"R packages are not installed on the worker {worker}: {told}. "
            "Ask your admin to add them (worker_packages)."
        )
    return found


def r_version(libraries: Iterable[str] = LIBRARIES) -> str:
    """The version of this machine's R; empty if it has none."""
    return _version("base", libraries)


def debian_names(name: str) -> list[str]:
    """How Debian would call the package: it comes from CRAN or from Bioconductor."""
    return [f"r-cran-{name.lower()}", f"r-bioc-{name.lower()}"]


def _version(name: str, libraries: Iterable[str]) -> str:
    for library in libraries:
        with suppress(OSError):
            text = Path(library, name, "DESCRIPTION").read_text(encoding="utf-8", errors="replace")
            lines = (line.partition(":") for line in text.splitlines())
            return next((value.strip() for field, _, value in lines if field == "Version"), "unknown")
    return ""
