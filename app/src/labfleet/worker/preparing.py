"""What a protocol's manifest asks for by `environment`, before its command is run.

An environment is made once for the content of its lock file and this machine's Python or R, whichever
protocol or version asks for it, and a container image once for its digest; R packages that are only named
must be there.
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
from labfleet.worker.environments import Description, Environment, Environments
from labfleet.worker.execution import Ending
from labfleet.worker.outputs import BadOutput, opened
from labfleet.worker.sandbox import ENVIRONMENT, LIBRARY, TREE, Image, Places
from labfleet.worker.spec import REGISTRIES, Spec

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
    """What was asked for is there until `release`: `libraries`, by their places in the sandbox, or an
    `image`. `told` goes into the provenance; `spoke` says that the attempt's progress told of its making,
    which is over now."""

    libraries: dict[str, Path] = field(default_factory=dict)
    image: Image | None = None
    spoke: bool = False
    told: dict[str, str] = field(default_factory=dict)
    held: list[Environment] = field(default_factory=list)

    def release(self) -> None:
        """They may be removed from now on."""
        for environment in self.held:
            environment.release()


@dataclass(frozen=True)
class Kind:
    """A kind of environment: how people call it, and where it lies in a sandbox."""

    name: str
    place: str


KINDS = {"python": Kind("Python", ENVIRONMENT), "r": Kind("R", LIBRARY)}
"""By their fields in a manifest."""


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
        prepared = Prepared()
        try:
            # What is only looked for comes before what takes long.
            for field_name in sorted(
                KINDS, key=lambda name: isinstance(self._spec.environment.get(name), str)
            ):
                if wanted := self._spec.environment.get(field_name):
                    self._prepare(prepared, field_name, wanted)
            if image := self._spec.environment.get("image"):
                self._prepare_image(prepared, image)
        except BaseException:
            prepared.release()
            raise
        finally:
            (self._places.directory / REGISTRIES).unlink(missing_ok=True)
        prepared.spoke = self._spoke
        return prepared

    def _prepare(self, prepared: Prepared, field_name: str, wanted: str | list[str]) -> None:
        kind = KINDS[field_name]
        if isinstance(wanted, str):
            environment = self._environment(field_name, wanted)
            prepared.held.append(environment)
            prepared.libraries[kind.place] = environment.path
            prepared.told[f"{kind.name} environment"] = environment.path.parent.name
            if remark := environment.description.get("remark"):
                self._capture.note(remark)
            packages = environment.description["packages"]
        else:
            packages = self._installed(wanted)
        prepared.told[f"{kind.name} packages"] = _list(packages)

    def _prepare_image(self, prepared: Prepared, image: str) -> None:
        host = self._spec.host
        if not host.images.enabled:
            raise NoEnvironment(f"The worker {host.name} runs no container images (worker_images).")
        key = _key({"image": self._identity(image)})
        environment = self._kept(key, "image", image, b"")
        prepared.held.append(environment)
        prepared.image = Image(environment.path / TREE, environment.description["variables"])
        prepared.told["Container image"] = image
        prepared.told["Container image digest"] = environment.description["digest"]

    def _identity(self, image: str) -> str:
        """What it is called everywhere: by its digest, or by that of its archive."""
        from labfleet.protocols.images import is_archive, read_reference  # noqa: PLC0415

        if not is_archive(image):
            return read_reference(image).digest
        try:
            with opened(self._places.protocol, image) as file, open(file.fd, "rb", closefd=False) as stream:
                return f"archive {hashlib.file_digest(stream, 'sha256').hexdigest()}"
        except (FileNotFoundError, BadOutput):
            raise BadEnvironment(f"The protocol has no archive {image} (environment: image).") from None

    def _installed(self, names: list[str]) -> dict[str, str]:
        try:
            return rpackages.versions(names, self._spec.host.name)
        except rpackages.MissingPackages as error:
            raise BadEnvironment(str(error)) from None

    def _environment(self, field_name: str, lock: str) -> Environment:
        if field_name == "r" and not rpackages.r_version():
            told = f"There is no R on the worker {self._spec.host.name}."
            raise BadEnvironment(f"{told} Ask your admin to add r-base-core (worker_packages).")
        content = self._lock_file(field_name, lock)
        return self._kept(key_of(field_name, lock, content), field_name, lock, content)

    def _kept(self, key: str, field_name: str, lock: str, content: bytes) -> Environment:
        packages = self._spec.host.packages
        if not packages.directory:
            raise NoEnvironment("This worker has no place for environments.")
        kept = Environments(Path(packages.directory), packages.cache_bytes)
        environment = kept.obtain(
            key, lambda target: self._make(field_name, lock, content, target), self._wait
        )
        self._say("")
        return environment

    def _lock_file(self, field_name: str, lock: str) -> bytes:
        try:
            with opened(self._places.protocol, lock) as file, open(file.fd, "rb", closefd=False) as stream:
                return stream.read(MAX_LOCK_BYTES + 1)
        except (FileNotFoundError, BadOutput):
            raise BadEnvironment(
                f"The protocol has no lock file {lock} (environment: {field_name})."
            ) from None

    def _make(self, field_name: str, lock: str, content: bytes, target: Path) -> Description:
        # Imported where they are needed: most attempts find their environment made.
        from labfleet.worker.building import Build, Recipe  # noqa: PLC0415
        from labfleet.worker.imagerecipe import ImageRecipe  # noqa: PLC0415
        from labfleet.worker.rrecipe import RRecipe  # noqa: PLC0415
        from labfleet.worker.uvrecipe import UvRecipe  # noqa: PLC0415

        recipes: dict[str, Callable[[Spec], Recipe]] = {
            "r": RRecipe,
            "python": UvRecipe,
            "image": ImageRecipe,
        }
        recipe = recipes[field_name](self._spec)
        build = Build(self._spec, self._places, self._capture, self._stop, self._say)
        return build.make(recipe, lock, content, target)

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


def key_of(field_name: str, lock: str, content: bytes) -> str:
    """The name of an environment: by everything that it depends on. What is installed is pinned by hashes, so
    that it does not matter from where it comes."""
    facts: dict[str, object] = {"lock": hashlib.sha256(content).hexdigest()}
    if field_name == "r":
        facts["r"] = rpackages.r_version()
    else:
        facts |= {"kind": Path(lock).suffix == ".toml", "python": Path(PYTHON).resolve().name}
    return _key(facts)


def _key(facts: dict[str, object]) -> str:
    known = {"format": FORMAT, "machine": platform.machine(), "system": sys.platform, **facts}
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def _list(versions: dict[str, str]) -> str:
    text = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
    return text if len(text) <= MAX_TOLD else f"{text[: MAX_TOLD - 1]}…"
