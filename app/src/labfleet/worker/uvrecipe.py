"""A Python environment out of a lock file, by uv: an empty one is made, filled, and compiled."""

from __future__ import annotations

import re
import sys
from importlib.metadata import PathDistribution
from pathlib import Path, PurePosixPath

from labfleet.protocols.lockfile import Pin, line_named, read_lock
from labfleet.worker import sandbox
from labfleet.worker.building import DOWNLOADS, Allowance, Build, Recipe, Step, one_line
from labfleet.worker.preparing import PYTHON, BadEnvironment, NoEnvironment
from labfleet.worker.sandbox import ENVIRONMENT, PROTOCOL
from labfleet.worker.spec import Spec

UV = f"{sandbox.ROOT}/uv"
REQUIREMENTS = f"{sandbox.ROOT}/requirements.txt"
CONNECTIONS = 8
HTTP_SECONDS, HTTP_RETRIES = 30, 2

_HASH = re.compile(r"Hash mismatch")
_LOCK = re.compile(
    r"No solution found|Hash-checking is required|`--require-hashes`|requirements? (?:are|is) unsatisfiable"
)
_AWAY = re.compile(
    r"error sending request|Request failed|Failed to fetch|Failed to download|HTTP status|dns error|timed out"
)


class UvRecipe(Recipe):
    """Only installing has the network, and only where there is an index."""

    place = ENVIRONMENT

    def __init__(self, spec: Spec) -> None:
        self._packages = spec.host.packages
        self._wheels = spec.environment.get("wheels") or ""
        self._cores = str(spec.cores)
        self.allowance = Allowance(self._packages.build_seconds, self._packages.environment_bytes)
        self.ca_file = self._packages.ca_file
        self._lock = ""
        self._pins: list[Pin] = []

    def read(self, lock: str, content: bytes) -> str:
        """The packages of a lock file with hashes."""
        self._lock, self._pins = lock, read_lock(lock, content)
        return f"{len(self._pins)} packages of {lock}"

    def make(self, build: Build) -> dict[str, str]:
        """Three steps."""
        listing = build.places.directory / "requirements.txt"
        listing.write_text("".join(f"{pin}\n" for pin in self._pins), encoding="utf-8")
        empty = ["venv", "--quiet", "--allow-existing", "--python", PYTHON, ENVIRONMENT]
        build.sure(build.run(self._uv(empty, listing)), self._fault)
        self._install(build, listing)
        build.say(f"compiling {len(self._pins)} packages")
        # Some packages carry files for other versions of Python: that not all compile is no fault.
        build.run(self._compile())
        (build.target / ".lock").unlink(missing_ok=True)
        return _installed(build.target)

    def _fault(self, words: str) -> Exception:
        """By what uv says."""
        said = one_line(words)
        if _HASH.search(words) or _LOCK.search(words):
            return BadEnvironment(self._lock_fault(words, said))
        if _AWAY.search(words):
            return NoEnvironment(
                f"The package index {self._packages.index_url} did not answer: {said}. An admin may name "
                "another (worker_package_index_url), or a protocol bring its wheels (environment: wheels)."
            )
        return NoEnvironment(f"The environment could not be built: {said or 'uv gave no reason'}")

    def _lock_fault(self, words: str, said: str) -> str:
        pin = line_named(self._pins, words)
        place = f"{self._lock}:{pin.line}" if pin and pin.line else self._lock
        index = (
            self._packages.index_url
            or "no index: this worker has none, and only takes wheels of the protocol"
        )
        return f"The environment can't be built: {place}: {said} (index: {index})"

    def _install(self, build: Build, listing: Path) -> None:
        """From the protocol's own wheels if that is possible, without any network; else from the index."""
        index = self._packages.index_url
        if self._wheels or not index:
            done = build.run(self._uv(self._pip(""), listing))
            if not (index and done.exit_code and _LOCK.search(done.words)):
                build.sure(done, self._fault)
                return
            build.note(f"not all packages are in {self._wheels}; asking the index")
        step = self._uv(self._pip(index), listing, network=bool(index))
        build.sure(build.run(step), self._fault)

    def _pip(self, index: str) -> list[str]:
        """The packages of the lock file, from the protocol's wheels and from the index."""
        command = ["pip", "install", "--no-progress", "--color", "never"]
        command += ["--python", f"{ENVIRONMENT}/bin/python", "--require-hashes", "-r", REQUIREMENTS]
        # What a source package needs to be built has no hash, so it must not come from the protocol.
        command += [] if self._packages.sdists and not self._wheels else ["--only-binary", ":all:"]
        command += ["--find-links", str(PurePosixPath(PROTOCOL, self._wheels))] if self._wheels else []
        return [*command, *(["--default-index", index] if index else ["--no-index"])]

    def _uv(self, command: list[str], listing: Path, *, network: bool = False) -> Step:
        values = {
            "UV_CACHE_DIR": f"{ENVIRONMENT}/{DOWNLOADS}",
            "UV_LINK_MODE": "hardlink",
            "UV_PYTHON_DOWNLOADS": "never",
            "UV_HTTP_TIMEOUT": str(HTTP_SECONDS),
            "UV_HTTP_RETRIES": str(HTTP_RETRIES),
            "UV_CONCURRENT_DOWNLOADS": str(CONNECTIONS),
            "UV_CONCURRENT_INSTALLS": self._cores,
            "UV_CONCURRENT_BUILDS": self._cores,
        }
        files = {UV: Path(sys.prefix, "bin", "uv"), REQUIREMENTS: listing}
        return Step([UV, "--no-config", *command], network, files, values)

    def _compile(self) -> Step:
        """Compile the modules: tasks can't write what they compile, and would do so each time. Nothing of the
        environment is run for it (-S: no `.pth` file is read)."""
        command = [PYTHON, "-I", "-S", "-m", "compileall", "-qq", "-j", self._cores, f"{ENVIRONMENT}/lib"]
        return Step(command)


def _installed(target: Path) -> dict[str, str]:
    found = (PathDistribution(path) for path in target.glob("lib/python*/site-packages/*.dist-info"))
    return {item.metadata["Name"]: item.version for item in found}
