"""An R library out of a lock file: tarballs are fetched and hashed, packages are installed, each after those
that it needs, and loaded once.

Only fetching has the network. Installing runs code of the packages (`configure`, and what their functions are
made by), and has none.
"""

from __future__ import annotations

import json
import re
import shutil
from functools import partial
from graphlib import CycleError, TopologicalSorter
from pathlib import Path, PurePosixPath

from labfleet.protocols import cran
from labfleet.protocols.cran import Fault, Found
from labfleet.protocols.renvlock import BASE, Lock, read_lock
from labfleet.worker import rpackages, sandbox
from labfleet.worker.building import DOWNLOADS, MAX_WORDS, Allowance, Build, Recipe, Step, one_line
from labfleet.worker.preparing import PYTHON, BadEnvironment, NoEnvironment
from labfleet.worker.sandbox import LIBRARY, PROTOCOL
from labfleet.worker.spec import Spec

FETCHER, PLAN = f"{sandbox.ROOT}/fetch.py", f"{sandbox.ROOT}/packages.json"
COMPILERS = {
    **dict.fromkeys((".c", ".m"), "gcc"),
    **dict.fromkeys((".cc", ".cpp", ".cxx"), "g++"),
    **dict.fromkeys((".f", ".f90", ".f95", ".for"), "gfortran"),
}
"""By the ending of a source; Debian's R was built with these."""
LOADS = (
    "for (name in commandArgs(TRUE)) tryCatch(invisible(loadNamespace(name)), error = function(e) {"
    'message("error: ", name, " does not load: ", conditionMessage(e)); quit(status = 1) })'
)

_ERROR = re.compile(r"^error\b|\berror:", re.IGNORECASE)
_UNLOADED = re.compile(r"^error: (\S+) does not load: ", re.MULTILINE)
_BEFORE = 3


class RRecipe(Recipe):
    """Of source packages, or of such that are compiled already: the hash says which."""

    place = LIBRARY

    def __init__(self, spec: Spec) -> None:
        self._packages = spec.host.packages
        self._worker = spec.host.name
        self._tarballs = spec.environment.get("tarballs") or ""
        self._cores = spec.cores
        self.allowance = Allowance(self._packages.build_seconds, self._packages.environment_bytes)
        self.ca_file = self._packages.r_ca_file
        self._file = ""
        self._lock = Lock("", ())

    def read(self, lock: str, content: bytes) -> str:
        """The packages of an `renv.lock` with hashes."""
        self._file, self._lock = lock, read_lock(lock, content)
        return f"{len(self._lock.pins)} packages of {lock}"

    def make(self, build: Build) -> dict[str, str]:
        """A step to fetch, one for each package, one to load them."""
        found = self._ordered(self._fetch(build))
        self._require_compilers(found)
        for number, item in enumerate(found, start=1):
            build.say(f"installing {item.name}, {number} of {len(found)} packages")
            build.sure(build.run(self._install(build, item)), partial(self._not_installed, item))
        build.say(f"loading {len(found)} packages")
        names = [item.name for item in found]
        build.sure(build.run(self._r(["Rscript", "--vanilla", "-e", LOADS, *names])), self._not_loaded)
        return {item.name: item.version for item in found}

    def remark(self) -> str:
        """Whether the lock file is of another R: packages of its time may not fit to this one."""
        here = rpackages.r_version()
        if here.split(".")[:2] == self._lock.r.split(".")[:2]:
            return ""
        return f"{self._file} was made with R {self._lock.r}; this worker has R {here}"

    def _fetch(self, build: Build) -> list[Found]:
        downloads = build.target / DOWNLOADS
        downloads.mkdir()
        folder = PurePosixPath(PROTOCOL, self._tarballs) if self._tarballs else ""
        own = build.places.protocol / self._tarballs if self._tarballs else None
        asked = not own or any(not _is_file(own / pin.file) for pin in self._lock.pins)
        indexes = list(self._packages.r_index_urls) if asked else []
        packages = [
            {"name": pin.name, "version": pin.version, "sha256": pin.sha256} for pin in self._lock.pins
        ]
        plan = build.places.directory / "packages.json"
        plan.write_text(json.dumps({"packages": packages, "folder": str(folder), "indexes": indexes}))
        command = [PYTHON, "-I", "-S", FETCHER, PLAN, f"{LIBRARY}/{DOWNLOADS}"]
        files = {FETCHER: Path(cran.__file__), PLAN: plan}
        build.sure(build.run(Step(command, bool(indexes), files)), _not_fetched)
        report = json.loads((downloads / cran.REPORT).read_text(encoding="utf-8"))
        if report["faults"]:
            raise self._faulty([Fault(**item) for item in report["faults"]])
        return [Found(**item) for item in report["found"]]

    def _faulty(self, faults: list[Fault]) -> Exception:
        if away := next((fault for fault in faults if fault.away), None):
            return NoEnvironment(
                f"An index of R packages did not answer: {away.message}. An admin may name others "
                "(worker_r_index_urls), or a protocol bring its tarballs (environment: tarballs)."
            )
        told = "\n".join(f"{self._place(fault.name)}: {fault.message}" for fault in faults)
        none = "" if self._packages.r_index_urls else f" ({_NO_INDEX})"
        return _bad(f"{told}{none}")

    def _ordered(self, found: list[Found]) -> list[Found]:
        """Each after those that it needs."""
        known = {item.name: item for item in found}
        for item in found:
            if missing := sorted(set(item.needs) - known.keys() - BASE):
                raise _bad(
                    f"{self._place(item.name)}: {item.name} {item.version} needs {', '.join(missing)}, which "
                    "the lock file does not have. Write it anew by renv::snapshot()."
                )
        try:
            order = TopologicalSorter(
                {item.name: [name for name in item.needs if name in known] for item in found}
            )
            return [known[name] for name in order.static_order()]
        except CycleError as error:
            raise _bad(f"{self._file}: packages need each other: {' → '.join(error.args[1])}") from None

    def _require_compilers(self, found: list[Found]) -> None:
        for item in found:
            tools = [*({COMPILERS[ending] for ending in item.sources if ending in COMPILERS})]
            wanted = sorted([*tools, *(["make"] if item.sources else [])])
            if lacking := [tool for tool in wanted if not shutil.which(tool, path=sandbox.PATH)]:
                raise _bad(
                    f"{self._place(item.name)}: {item.name} {item.version} has to be compiled, and the "
                    f"worker {self._worker} lacks {', '.join(lacking)} for it. Ask your admin for r-base-dev "
                    "(worker_packages), or lock the package as an index has it compiled."
                )

    def _install(self, build: Build, item: Found) -> Step:
        command = ["R", "CMD", "INSTALL", "--no-docs", "--no-test-load", f"--library={LIBRARY}"]
        downloads = f"{LIBRARY}/{DOWNLOADS}"
        # No package changes the tarball of another, whose hash was looked at.
        return self._r([*command, f"{downloads}/{item.file}"], {downloads: build.target / DOWNLOADS})

    def _r(self, command: list[str], files: dict[str, Path] | None = None) -> Step:
        # Of what is wrong R tells a part on its standard output.
        words = ["/bin/sh", "-c", 'exec "$@" >&2', "sh", *command]
        return Step(words, False, files or {}, {**sandbox.R_VARIABLES, "MAKEFLAGS": f"-j{self._cores}"})

    def _not_installed(self, item: Found, words: str) -> Exception:
        return _bad(
            f"{self._place(item.name)}: {item.name} {item.version} can't be installed: {_reason(words)}"
        )

    def _not_loaded(self, words: str) -> Exception:
        match = _UNLOADED.search(words)
        place = self._place(match[1]) if match else self._file
        return _bad(f"{place}: {one_line(words[match.start() :] if match else words)}")

    def _place(self, name: str) -> str:
        """The line of a package."""
        line = next((pin.line for pin in self._lock.pins if pin.name == name), None)
        return f"{self._file}:{line}" if line else self._file


_NO_INDEX = "this worker has no index, worker_r_index_urls, and only takes tarballs of the protocol"


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _bad(told: str) -> BadEnvironment:
    return BadEnvironment(f"The environment can't be built: {told}")


def _not_fetched(words: str) -> Exception:
    return NoEnvironment(f"The environment could not be built: {one_line(words) or 'no reason given'}")


def _reason(words: str) -> str:
    """What R says from its first error on; where it only says that it failed, also what stands before."""
    lines = [line for line in words.splitlines() if line.strip() and not line.startswith(("* ", "** "))]
    first = next((number for number, line in enumerate(lines) if _ERROR.search(line)), len(lines))
    begin = first if first < len(lines) - 1 else first - _BEFORE
    text = " ".join(" ".join(lines[max(0, begin) :]).split())
    return text if len(text) <= MAX_WORDS else f"{text[:MAX_WORDS]}…"
