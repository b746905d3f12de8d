"""What a protocol's manifest asks for by `environment`, before its command is run.

A Python environment is made once for the content of its lock file and this machine's Python, whichever
protocol or version asks for it; R packages must be there.
"""

from __future__ import annotations

import hashlib
import json
import platform
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labfleet.worker import rpackages, verdict
from labfleet.worker.capture import Capture
from labfleet.worker.environments import Environment, Environments
from labfleet.worker.execution import Ending
from labfleet.worker.outputs import BadOutput, opened
from labfleet.worker.sandbox import Places
from labfleet.worker.spec import Spec

PYTHON = "/usr/bin/python3"
FORMAT = 1
"""Another number for each change of how environments are made."""
WAIT_SECONDS = 0.5
MAX_LOCK_BYTES = 2 * 1024**2
MAX_TOLD = 20_000
"""Characters that the webserver takes of a list of packages."""


class Unprepared(Exception, ABC):
    """The command is not run."""

    @abstractmethod
    def verdict(self) -> dict[str, Any]:
        """What is told of the attempt."""


class BadEnvironment(Unprepared):
    """The protocol asks for what can't be had; the message tells its author what, and on which line."""

    def verdict(self) -> dict[str, Any]:
        """The user's failure."""
        return verdict.user_failure(str(self))


class NoEnvironment(Unprepared):
    """This worker could not make it now, and may do so later."""

    def verdict(self) -> dict[str, Any]:
        """Ours: it is tried again."""
        return verdict.system_failure(str(self))


class Stopped(Unprepared):
    """Somebody has asked for the end of the attempt."""

    def verdict(self) -> dict[str, Any]:
        """Neither success nor failure."""
        return verdict.judge(Ending(None, stopped=True))


@dataclass
class Prepared:
    """What was asked for is there until `release`. `told` goes into the provenance; `spoke` says that the
    attempt's progress told of its making, which is over now."""

    path: Path | None = None
    spoke: bool = False
    told: dict[str, str] = field(default_factory=dict)
    release: Callable[[], None] = lambda: None


class Preparation:
    """Of one attempt. Says in its log and as its progress what it does."""

    def __init__(self, spec: Spec, places: Places, capture: Capture, stop: threading.Event) -> None:
        self._spec = spec
        self._places = places
        self._capture = capture
        self._stop = stop
        self._said = ""
        self._spoke = False

    def run(self) -> Prepared:
        """All of it; `BadEnvironment`, `NoEnvironment` or `Stopped` otherwise."""
        wanted = self._spec.environment
        prepared = Prepared()
        if names := wanted.get("r"):
            try:
                found = rpackages.versions(names, self._spec.host.name)
            except rpackages.MissingPackages as error:
                raise BadEnvironment(str(error)) from None
            prepared.told["R packages"] = _list(found)
        if lock := wanted.get("python"):
            environment = self._python(lock)
            prepared.path, prepared.release = environment.path, environment.release
            prepared.told["Python environment"] = environment.path.parent.name
            prepared.told["Python packages"] = _list(environment.description["packages"])
        prepared.spoke = self._spoke
        return prepared

    def _python(self, lock: str) -> Environment:
        if not self._spec.host.packages.directory:
            raise NoEnvironment("This worker has no place for environments.")
        content = self._lock_file(lock)
        key = key_of(lock, content)
        packages = self._spec.host.packages
        kept = Environments(Path(packages.directory), packages.cache_bytes)
        environment = kept.obtain(key, lambda target: self._make(lock, content, target), self._wait)
        self._say("")
        return environment

    def _lock_file(self, lock: str) -> bytes:
        try:
            with opened(self._places.protocol, lock) as file, open(file.fd, "rb", closefd=False) as stream:
                return stream.read(MAX_LOCK_BYTES + 1)
        except (FileNotFoundError, BadOutput):
            raise BadEnvironment(f"The protocol has no lock file {lock} (environment: python).") from None

    def _make(self, lock: str, content: bytes, target: Path) -> dict[str, object]:
        # Imported where it is needed: most attempts find their environment made.
        from labfleet.worker.building import Build  # noqa: PLC0415

        return Build(self._spec, self._places, self._capture, self._stop, self._say).make(
            lock, content, target
        )

    def _wait(self) -> None:
        if not self._said:
            self._capture.note("another task is building the environment; waiting for it")
            self._say("waiting for the environment, which another task is building")
        if self._stop.wait(WAIT_SECONDS):
            raise Stopped

    def _say(self, text: str) -> None:
        if text != self._said:
            self._places.report(text)
            self._spoke = True
        self._said = text


def key_of(lock: str, content: bytes) -> str:
    """The name of an environment: by everything that it depends on. What is installed is pinned by hashes, so
    that it does not matter from where it comes."""
    facts = {
        "format": FORMAT,
        "kind": Path(lock).suffix == ".toml",
        "lock": hashlib.sha256(content).hexdigest(),
        "python": Path(PYTHON).resolve().name,
        "machine": platform.machine(),
        "system": sys.platform,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _list(versions: dict[str, str]) -> str:
    text = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
    return text if len(text) <= MAX_TOLD else f"{text[: MAX_TOLD - 1]}…"
