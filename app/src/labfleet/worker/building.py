"""Make a Python environment out of a lock file: uv in a sandbox of its own, in three steps.

The first makes an empty environment, the second installs, the third compiles what was installed. Only the
second has the network, and only where there is an index; no code of a package runs in it (unless the admin
lets source packages be built). All of it belongs to the attempt that asked first: it counts against its cores
and its memory, and ends with it.
"""

from __future__ import annotations

import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import PathDistribution
from pathlib import Path, PurePosixPath

from labfleet.protocols.lockfile import Pin, line_named, read_lock
from labfleet.protocols.problems import InvalidProtocol
from labfleet.worker import sandbox
from labfleet.worker.capture import Capture
from labfleet.worker.execution import Ending, Execution
from labfleet.worker.meter import Meter, group_of
from labfleet.worker.preparing import PYTHON, BadEnvironment, NoEnvironment, Stopped
from labfleet.worker.removal import remove
from labfleet.worker.sandbox import ENVIRONMENT, PROTOCOL, Places
from labfleet.worker.spec import Spec
from labfleet.worker.watch import Exceeded, Watch, usage

UV = f"{sandbox.ROOT}/uv"
REQUIREMENTS = f"{sandbox.ROOT}/requirements.txt"
AUTHORITY = f"{sandbox.ROOT}/authority.crt"
DOWNLOADS = ".downloads"
"""Beside what is installed, so that files are linked from there and not copied; removed at the end."""
NETWORK_FILES = ("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/ssl/certs")
SYSTEM_AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
SCRATCH_BYTES, SHARED_BYTES = 1024**3, 16 * 1024**2
PROCESSES = 512
CONNECTIONS = 8
HTTP_SECONDS, HTTP_RETRIES = 30, 2
TOO_LARGE_A_FILE = 128 + signal.SIGXFSZ
ENTRIES = 1_000_000
LOOK_SECONDS = 2.0
WORDS_BYTES = 64 * 1024
MAX_WORDS = 800
MIB = 1024**2

_HASH = re.compile(r"Hash mismatch")
_LOCK = re.compile(
    r"No solution found|Hash-checking is required|`--require-hashes`|requirements? (?:are|is) unsatisfiable"
)
_AWAY = re.compile(
    r"error sending request|Request failed|Failed to fetch|Failed to download|HTTP status|dns error|timed out"
)
_ROOM = re.compile(r"No space left on device|Disk quota exceeded")


class Build:
    """Of one environment. `say` takes how far it is, for the person who waits."""

    def __init__(
        self,
        spec: Spec,
        places: Places,
        capture: Capture,
        stop: threading.Event,
        say: Callable[[str], None],
    ) -> None:
        self._spec = spec
        self._packages = spec.host.packages
        self._places = places
        self._capture = capture
        self._stop = stop
        self._say = say
        self._lock = ""
        self._pins: list[Pin] = []
        self._installed = False

    def make(self, lock: str, content: bytes, target: Path) -> dict[str, object]:
        """Fill the empty directory `target`; what is in it now. `BadEnvironment` for what its author must
        mend, `NoEnvironment` for what may be better later."""
        try:
            self._pins = read_lock(lock, content)
        except InvalidProtocol as error:
            raise BadEnvironment(f"The environment can't be built: {error.detail}") from None
        self._lock = lock
        listing = self._places.directory / "requirements.txt"
        listing.write_text("".join(f"{pin}\n" for pin in self._pins), encoding="utf-8")
        words = f"building the environment: {len(self._pins)} packages of {lock}"
        self._capture.note(words)
        self._say(words)
        started = time.monotonic()
        bounds = Bounds(self._spec, target, self._tell)
        steps = Steps(self._spec, self._places, self._capture, self._stop, target, listing, bounds)
        self._sure(steps.run(steps.empty()))
        self._install(steps)
        self._installed = True
        self._say(f"building the environment: compiling {len(self._pins)} packages")
        ending, _ = steps.run(steps.compile())
        # Some packages carry files for other versions of Python: that not all compile is no fault.
        self._sure((replace(ending, exit_code=0), ""))
        remove(target / DOWNLOADS)
        (target / ".lock").unlink(missing_ok=True)
        size = self._size(target)
        self._capture.note(f"the environment is built: {size // MIB} MiB, {time.monotonic() - started:.0f} s")
        return {"lock": lock, "bytes": size, "packages": _installed(target)}

    def _tell(self, size: int) -> None:
        if size >= MIB and not self._installed:
            self._say(f"building the environment: {len(self._pins)} packages, {size // MIB} MiB so far")

    def _size(self, target: Path) -> int:
        size, _ = usage(target, ENTRIES)
        if size > self._packages.environment_bytes:
            raise BadEnvironment(_too_large(self._packages.environment_bytes))
        return size

    def _install(self, steps: Steps) -> None:
        """From the protocol's own wheels if that is possible, without any network; else from the index."""
        wheels = self._spec.environment.get("wheels") or ""
        index = self._packages.index_url
        if wheels or not index:
            done = steps.run(steps.install(wheels, ""))
            if not (index and done[0].exit_code and _LOCK.search(done[1])):
                self._sure(done)
                return
            self._capture.note(f"not all packages are in {wheels}; asking the index")
        self._sure(steps.run(steps.install(wheels, index)))

    def _sure(self, done: tuple[Ending, str]) -> None:
        ending, words = done
        if ending.stopped:
            raise Stopped
        if ending.exceeded:
            raise self._over(ending)
        if ending.exit_code is None:
            raise NoEnvironment(f"The sandbox could not be started: {_one_line(words) or 'no reason given'}")
        if ending.exit_code == TOO_LARGE_A_FILE:
            raise BadEnvironment(_too_large(self._packages.environment_bytes))
        if ending.exit_code != 0:
            raise self._fault(words)

    def _over(self, ending: Ending) -> Exception:
        if ending.exceeded == _too_slow(self._packages.build_seconds):
            return NoEnvironment(ending.exceeded)
        return BadEnvironment(ending.exceeded)

    def _fault(self, words: str) -> Exception:
        said = _one_line(words)
        if _ROOM.search(words):
            return NoEnvironment(f"The worker has no room for the environment: {said}")
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


@dataclass(frozen=True)
class Steps:
    """The sandboxes, one after the other, within one time and one size."""

    spec: Spec
    places: Places
    capture: Capture
    stop: threading.Event
    target: Path
    listing: Path
    bounds: Bounds

    def run(self, words: tuple[list[str], bool]) -> tuple[Ending, str]:
        """How the command ended, and what it wrote to its standard error."""
        command, network = words
        ear = Ear(self.capture)
        execution = Execution(self.bounds, ear, self.stop, 0)
        ending = execution.run(lambda status_fd: self._argv(status_fd, command, network))
        return ending, ear.words

    def empty(self) -> tuple[list[str], bool]:
        """An environment without packages."""
        command = ["venv", "--quiet", "--allow-existing", "--python", PYTHON, ENVIRONMENT]
        return [UV, "--no-config", *command], False

    def install(self, wheels: str, index: str) -> tuple[list[str], bool]:
        """The packages of the lock file, from the protocol's directory `wheels` and from the index."""
        packages = self.spec.host.packages
        command = [UV, "--no-config", "pip", "install", "--no-progress", "--color", "never"]
        command += ["--python", f"{ENVIRONMENT}/bin/python", "--require-hashes", "-r", REQUIREMENTS]
        # What a source package needs to be built has no hash, so it must not come from the protocol.
        command += [] if packages.sdists and not wheels else ["--only-binary", ":all:"]
        command += ["--find-links", str(PurePosixPath(PROTOCOL, wheels))] if wheels else []
        command += ["--default-index", index] if index else ["--no-index"]
        return command, bool(index)

    def compile(self) -> tuple[list[str], bool]:
        """Compile the modules: tasks can't write what they compile, and would do so each time. Nothing of the
        environment is run for it (-S: no `.pth` file is read)."""
        cores = str(self.spec.cores)
        return [PYTHON, "-I", "-S", "-m", "compileall", "-qq", "-j", cores, f"{ENVIRONMENT}/lib"], False

    def _argv(self, status_fd: int, command: list[str], network: bool) -> list[str]:
        packages = self.spec.host.packages
        words = [sandbox.BWRAP, *sandbox.isolation(status_fd), *sandbox.system(())]
        words += ["--proc", "/proc", "--dev", "/dev"]
        words += ["--size", str(SHARED_BYTES), "--tmpfs", "/dev/shm"]  # noqa: S108
        words += ["--size", str(SCRATCH_BYTES), "--tmpfs", "/tmp"]  # noqa: S108
        for name in ("passwd", "group"):
            words += ["--ro-bind", str(self.places.identity / name), f"/etc/{name}"]
        if network:
            words += ["--share-net"]
            for path in NETWORK_FILES:
                words += ["--ro-bind-try", path, path]
        if network and packages.ca_file:
            words += ["--ro-bind", packages.ca_file, AUTHORITY]
        words += ["--ro-bind", str(Path(sys.prefix, "bin", "uv")), UV]
        words += ["--ro-bind", str(self.listing), REQUIREMENTS]
        words += ["--ro-bind", str(self.places.protocol), PROTOCOL]
        words += ["--bind", str(self.target), ENVIRONMENT]
        words += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/"]
        return [*words, *self._environment(network), "--", *self._rlimits(), *command]

    def _environment(self, network: bool) -> list[str]:
        cores = str(self.spec.cores)
        values = {
            "PATH": sandbox.PATH,
            "HOME": "/tmp",  # noqa: S108  (the sandbox's own)
            "TMPDIR": "/tmp",  # noqa: S108
            "LANG": "C.UTF-8",
            "NO_COLOR": "1",
            "UV_CACHE_DIR": f"{ENVIRONMENT}/{DOWNLOADS}",
            "UV_LINK_MODE": "hardlink",
            "UV_PYTHON_DOWNLOADS": "never",
            "UV_HTTP_TIMEOUT": str(HTTP_SECONDS),
            "UV_HTTP_RETRIES": str(HTTP_RETRIES),
            "UV_CONCURRENT_DOWNLOADS": str(CONNECTIONS),
            "UV_CONCURRENT_INSTALLS": cores,
            "UV_CONCURRENT_BUILDS": cores,
        }
        if network and self.spec.host.packages.ca_file:
            values["SSL_CERT_FILE"] = AUTHORITY
        elif network and Path(SYSTEM_AUTHORITIES).exists():
            # Those of the machine, to which a site may have added its own; uv brings others along.
            values["SSL_CERT_FILE"] = SYSTEM_AUTHORITIES
        return sandbox.variables(values)

    def _rlimits(self) -> list[str]:
        bounds = {
            "nproc": PROCESSES,
            "fsize": self.spec.host.packages.environment_bytes,
            "nofile": sandbox.OPEN_FILES,
            "core": 0,
        }
        return ["/usr/bin/prlimit", *(f"--{name}={bound}" for name, bound in bounds.items()), "--"]


class Bounds(Watch):
    """Time and size of a build as a whole. Memory is bounded by the attempt's unit alone."""

    def __init__(self, spec: Spec, target: Path, tell: Callable[[int], None]) -> None:
        packages = spec.host.packages
        limits = replace(spec.limits, wall_seconds=packages.build_seconds)
        super().__init__(limits, target, Meter(group_of()))
        self._packages = packages
        self._target = target
        self._tell = tell
        self._end = time.monotonic() + packages.build_seconds
        self._look_at = 0.0

    def check(self, bwrap: int) -> None:
        """Look at the clock, now and then at the size."""
        del bwrap
        now = time.monotonic()
        if now > self._end:
            raise Exceeded(_too_slow(self._packages.build_seconds))
        if now >= self._look_at:
            # What is installed and what was downloaded are links to the same files, and counted twice here.
            size = usage(self._target, ENTRIES)[0]
            # A large one takes a while to look through.
            self._look_at = time.monotonic() + max(LOOK_SECONDS, 20 * (time.monotonic() - now))
            self._tell(size)
            if size > 2 * self._packages.environment_bytes:
                raise Exceeded(_too_large(self._packages.environment_bytes))

    def unbearable(self, bwrap: int) -> bool:
        """There is nothing that a build that is ended has to save."""
        del bwrap
        return True


class Ear:
    """Hands on to the attempt's log what a step prints, and remembers its standard error."""

    def __init__(self, capture: Capture) -> None:
        self._capture = capture
        self._heard = b""

    def write(self, piece: bytes, *, is_error: bool) -> None:
        """A piece of standard output or standard error."""
        if is_error:
            self._heard = (self._heard + piece)[-WORDS_BYTES:]
        # Not as the attempt's own words: those are its command's.
        self._capture.write(piece, is_error=False)

    def note(self, text: str) -> None:
        """A line of ours."""
        self._capture.note(text)

    @property
    def words(self) -> str:
        """All of its standard error."""
        return self._heard.decode(errors="replace")

    @property
    def last_words(self) -> str:
        """As for any sandbox."""
        return _one_line(self.words)


def _installed(target: Path) -> dict[str, str]:
    found = (PathDistribution(path) for path in target.glob("lib/python*/site-packages/*.dist-info"))
    return {item.metadata["Name"]: item.version for item in found}


def _one_line(words: str) -> str:
    """What uv says from its first `error:` on, on one line."""
    _, found, reason = words.partition("error:")
    text = " ".join((reason if found else words).split())
    return text if len(text) <= MAX_WORDS else f"{text[:MAX_WORDS]}…"


def _too_slow(seconds: float) -> str:
    return f"Building the environment took longer than {seconds:g} s (worker_environment_seconds)."


def _too_large(most: int) -> str:
    return (
        f"The environment is larger than {most // MIB} MiB. Lock fewer packages, or ask your admin for more "
        "room (worker_environment_bytes)."
    )
