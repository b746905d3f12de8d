"""Make an environment out of a lock file, or of an image, in sandboxes of its own, one after the other.

What each kind of environment does in them is its recipe (`uvrecipe.py`, `rrecipe.py`, `imagerecipe.py`). Only
a step that asks an index or a registry has the network, and no code of a package runs in it (unless the admin
lets Python's source packages be built). All of it belongs to the attempt that asked first: it counts against
its cores and its memory, and ends with it.
"""

from __future__ import annotations

import re
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from labfleet.protocols.problems import InvalidProtocol
from labfleet.worker import sandbox
from labfleet.worker.capture import Capture
from labfleet.worker.environments import Description
from labfleet.worker.execution import Ending, Execution
from labfleet.worker.meter import Meter, group_of
from labfleet.worker.preparing import BadEnvironment, NoEnvironment, Stopped
from labfleet.worker.removal import remove
from labfleet.worker.sandbox import PROTOCOL, Places
from labfleet.worker.spec import Spec
from labfleet.worker.watch import Exceeded, Watch, usage

AUTHORITY = f"{sandbox.ROOT}/authority.crt"
DOWNLOADS = ".downloads"
"""Beside what is installed, so that files are linked from there and not copied; removed at the end."""
NETWORK_FILES = ("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/ssl/certs")
SYSTEM_AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
SCRATCH_BYTES, SHARED_BYTES = 1024**3, 16 * 1024**2
PROCESSES = 512
TOO_LARGE_A_FILE = 128 + signal.SIGXFSZ
ENTRIES = 1_000_000
LOOK_SECONDS = 2.0
WORDS_BYTES = 64 * 1024
MAX_WORDS = 800
MIB = 1024**2

_ROOM = re.compile(r"No space left on device|Disk quota exceeded")
_LARGE = re.compile(r"File too large|File size limit exceeded")


@dataclass(frozen=True)
class Step:
    """One sandbox of a build: its command, whether it has the network, and beside the protocol and what is
    being built the files that it sees (their place there, and on the machine) and its variables."""

    command: list[str]
    network: bool = False
    files: Mapping[str, Path] = field(default_factory=dict)
    values: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Done:
    """How a step's command ended, and what it wrote to its standard error."""

    exit_code: int
    words: str


@dataclass(frozen=True)
class Allowance:
    """What making an environment may take (seconds, bytes), and how people call it; `settings` are the
    admin's names of both, `remedy` what its author may do."""

    seconds: float
    size: int
    name: str = "environment"
    doing: str = "building"
    done: str = "built"
    settings: tuple[str, str] = ("worker_environment_seconds", "worker_environment_bytes")
    remedy: str = "Lock fewer packages"

    @property
    def too_slow(self) -> str:
        """What is said when it took too long."""
        what = f"{self.doing.capitalize()} the {self.name}"
        return f"{what} took longer than {self.seconds:g} s ({self.settings[0]})."

    @property
    def too_large(self) -> str:
        """What is said when it is too large."""
        return (
            f"The {self.name} is larger than {self.size // MIB} MiB. {self.remedy}, or ask your admin for "
            f"more room ({self.settings[1]})."
        )


class Recipe(ABC):
    """How environments of one kind are made, for one attempt."""

    place: ClassVar[str]
    """Where it lies in a sandbox, while it is made and when it is used."""
    ca_file: str | None
    """The authority of the index's certificate, where it is none of the machine's."""

    allowance: Allowance

    @abstractmethod
    def read(self, lock: str, content: bytes) -> str:
        """What is made (`2 packages of a.lock`); `InvalidProtocol` for the faults of a lock file."""

    @abstractmethod
    def make(self, build: Build) -> dict[str, str]:
        """Fill `build.target` by steps; the packages that are in it then, with their versions."""

    def remark(self) -> str:
        """What every run with this environment is told, though it is no fault."""
        return ""

    def described(self) -> dict[str, Any]:
        """What else is kept with it."""
        return {}


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
        self.spec = spec
        self.places = places
        self._capture = capture
        self._stop = stop
        self._say = say
        self._measured = ""

    def make(self, recipe: Recipe, lock: str, content: bytes, target: Path) -> Description:
        """Fill the empty directory `target`; what is in it now. `BadEnvironment` for what its author must
        mend, `NoEnvironment` for what may be better later."""
        self._recipe, self.target, self._allowed = recipe, target, recipe.allowance
        try:
            what = recipe.read(lock, content)
        except InvalidProtocol as error:
            raise BadEnvironment(f"The environment can't be built: {error.detail}") from None
        self.say(what)
        self.note(f"{self._allowed.doing} the {self._allowed.name}: {what}")
        self._measured = what
        started = time.monotonic()
        self._bounds = Bounds(self.spec, target, self._allowed, self._tell)
        packages = recipe.make(self)
        remove(target / DOWNLOADS)
        size = self._size(target)
        took = f"{size // MIB} MiB, {time.monotonic() - started:.0f} s"
        self.note(f"the {self._allowed.name} is {self._allowed.done}: {took}")
        made = {"lock": lock, "bytes": size, "packages": packages, "remark": recipe.remark()}
        return made | recipe.described()

    def note(self, text: str) -> None:
        """A line of ours in the attempt's log."""
        self._capture.note(text)

    def say(self, text: str, *, measured: bool = False) -> None:
        """How far it is. From now on this is told, and no longer its size, unless that is `measured`."""
        self._measured = text if measured else ""
        self._say(f"{self._allowed.doing} the {self._allowed.name}: {text}")

    def run(self, step: Step) -> Done:
        """How it ended by itself; what ended it otherwise is raised."""
        ear = Ear(self._capture)
        execution = Execution(self.spec.host, self._bounds, ear, self._stop, 0)
        ending = execution.run(lambda status_fd: self._argv(status_fd, step))
        if ending.stopped:
            raise Stopped
        if ending.exceeded:
            raise self._over(ending)
        if ending.exit_code is None:
            raise NoEnvironment(
                f"The sandbox could not be started: {one_line(ear.words) or 'no reason given'}"
            )
        return Done(ending.exit_code, ear.words)

    def sure(self, done: Done, fault: Callable[[str], Exception]) -> None:
        """Raise what is wrong, if the step has failed: what `fault` makes of its words, or its size."""
        if done.exit_code == 0:
            return
        if done.exit_code == TOO_LARGE_A_FILE or _LARGE.search(done.words):
            raise BadEnvironment(self._allowed.too_large)
        if _ROOM.search(done.words):
            raise NoEnvironment(
                f"The worker has no room for the {self._allowed.name}: {one_line(done.words)}"
            )
        raise fault(done.words)

    def _tell(self, size: int) -> None:
        if size >= MIB and self._measured:
            told = f"{self._measured}, {size // MIB} MiB so far"
            self._say(f"{self._allowed.doing} the {self._allowed.name}: {told}")

    def _size(self, target: Path) -> int:
        size, _ = usage(target, ENTRIES, linked=False)
        if size > self._allowed.size:
            raise BadEnvironment(self._allowed.too_large)
        return size

    def _over(self, ending: Ending) -> Exception:
        if ending.exceeded == self._allowed.too_slow:
            return NoEnvironment(ending.exceeded)
        return BadEnvironment(ending.exceeded)

    def _argv(self, status_fd: int, step: Step) -> list[str]:
        words = [sandbox.BWRAP, *sandbox.isolation(status_fd), *sandbox.system(())]
        words += ["--proc", "/proc", "--dev", "/dev"]
        words += ["--size", str(SHARED_BYTES), "--tmpfs", "/dev/shm"]  # noqa: S108
        words += ["--size", str(SCRATCH_BYTES), "--tmpfs", "/tmp"]  # noqa: S108
        for name in ("passwd", "group"):
            words += ["--ro-bind", str(self.places.identity / name), f"/etc/{name}"]
        if step.network:
            words += ["--share-net"]
            for path in NETWORK_FILES:
                words += ["--ro-bind-try", path, path]
        if step.network and self._recipe.ca_file:
            words += ["--ro-bind", self._recipe.ca_file, AUTHORITY]
        words += ["--ro-bind", str(self.places.protocol), PROTOCOL]
        words += ["--bind", str(self.target), self._recipe.place]
        for place, file in step.files.items():
            words += ["--ro-bind", str(file), place]
        words += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/"]
        return [*words, *self._variables(step), "--", *self._rlimits(), *step.command]

    def _variables(self, step: Step) -> list[str]:
        values = {
            "PATH": sandbox.PATH,
            "HOME": "/tmp",  # noqa: S108  (the sandbox's own)
            "TMPDIR": "/tmp",  # noqa: S108
            "LANG": "C.UTF-8",
            "NO_COLOR": "1",
            **step.values,
        }
        if step.network and self._recipe.ca_file:
            values["SSL_CERT_FILE"] = AUTHORITY
        elif step.network and Path(SYSTEM_AUTHORITIES).exists():
            # Those of the machine, to which a site may have added its own; uv brings others along.
            values["SSL_CERT_FILE"] = SYSTEM_AUTHORITIES
        return sandbox.variables(values)

    def _rlimits(self) -> list[str]:
        bounds = {
            "nproc": PROCESSES,
            "fsize": self._allowed.size,
            "nofile": sandbox.OPEN_FILES,
            "core": 0,
        }
        return ["/usr/bin/prlimit", *(f"--{name}={bound}" for name, bound in bounds.items()), "--"]


class Bounds(Watch):
    """Time and size of a build as a whole. Memory is bounded by the attempt's unit alone."""

    def __init__(self, spec: Spec, target: Path, allowed: Allowance, tell: Callable[[int], None]) -> None:
        limits = replace(spec.limits, wall_seconds=allowed.seconds)
        super().__init__(limits, target, Meter(group_of()))
        self._allowed = allowed
        self._target = target
        self._tell = tell
        self._end = time.monotonic() + allowed.seconds
        self._look_at = 0.0

    def check(self, bwrap: int) -> None:
        """Look at the clock, now and then at the size."""
        del bwrap
        now = time.monotonic()
        if now > self._end:
            raise Exceeded(self._allowed.too_slow)
        if now >= self._look_at:
            # What is installed and what was downloaded are links to the same files, or two forms of the same.
            size = usage(self._target, ENTRIES, linked=False)[0]
            # A large one takes a while to look through.
            self._look_at = time.monotonic() + max(LOOK_SECONDS, 20 * (time.monotonic() - now))
            self._tell(size)
            if size > 2 * self._allowed.size:
                raise Exceeded(self._allowed.too_large)

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
        return one_line(self.words)


def one_line(words: str) -> str:
    """What a step says from its first `error:` on, on one line."""
    _, found, reason = words.partition("error:")
    text = " ".join((reason if found else words).split())
    return text if len(text) <= MAX_WORDS else f"{text[:MAX_WORDS]}…"
