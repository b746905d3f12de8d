"""What the worker process hands to an attempt's shepherd: one JSON file in the attempt's directory.

No module that the shepherd imports may be slow to import: it is started for each attempt.
"""

from __future__ import annotations

import json
import os
import signal
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

T = TypeVar("T", "Limits", "Input")
SPEC, TOKEN, FINISHED, REGISTRIES = "attempt.json", "token", "finished", "registries.json"
"""Files of an attempt's directory. `finished` is written when the server has taken the ending; what opens
registries (`registries.json`) is there while an image is fetched."""
UNIT_PREFIX = "labfleet-attempt-"
"""How the names of attempts' units begin."""
STOP_SIGNAL = signal.SIGURG
"""What a scope's processes get when it is stopped. A scope has no main process that could be told alone, and
only the shepherd shall hear of it: it gives the sandbox its grace. Nobody else heeds this signal."""
MEMORY_OVERHEAD_BYTES = 256 * 1024**2
"""What an attempt's unit may use on top of the attempt's limit: the shepherd, page cache, and what a
program that is over its limit needs to save its work. The kernel kills above that."""


@dataclass(frozen=True)
class Limits:
    """What one attempt may use (the claim's `limits`). Without `cpu_seconds` processor time is unlimited."""

    wall_seconds: float
    memory_bytes: int
    log_bytes: int
    output_bytes: int
    processes: int
    cpu_seconds: float | None = None


@dataclass(frozen=True)
class Input:
    """A dataset to fetch into a slot."""

    slot: str
    name: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Output:
    """A file that the protocol declares."""

    name: str
    path: str
    kind: str
    optional: bool


@dataclass(frozen=True)
class Packages:
    """How environments are made here: where they lie, from which index Python's packages come and from which
    R's (none: only what the protocol brings along), whether Python's source packages may be built, and what
    building one and keeping all may take."""

    directory: str = ""
    index_url: str = ""
    ca_file: str | None = None
    sdists: bool = False
    r_index_urls: tuple[str, ...] = ()
    r_ca_file: str | None = None
    build_seconds: float = 900
    environment_bytes: int = 2 * 1024**3
    cache_bytes: int = 5 * 1024**3


@dataclass(frozen=True)
class Images:
    """Whether container images are run here; from which registries they are fetched, in which folder the site
    keeps some, who vouches for a registry (`ca_file`, beside the public authorities), and what unpacking one
    may take."""

    enabled: bool = False
    registries: tuple[str, ...] = ()
    folder: str = ""
    ca_file: str | None = None
    max_seconds: float = 1800
    max_bytes: int = 8 * 1024**3


@dataclass(frozen=True)
class Host:
    """What the worker says of itself: where to report, how patient to be, what to show the sandbox, what
    results depend on (`environment`), where protocols that were fetched before lie, how environments of
    protocols are made (`packages`, `images`), where the webserver's store is mounted, if it is
    (`store_mount`), and how attempts let services go first (`scheduling`)."""

    url: str
    ca_file: str | None
    grace_seconds: float
    patience_seconds: float
    readonly_paths: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    protocol_cache: str = ""
    protocol_cache_bytes: int = 0
    packages: Packages = Packages()
    name: str = ""
    store_mount: str = ""
    scheduling: Literal["nice", "idle"] = "nice"
    images: Images = Images()


@dataclass(frozen=True)
class Spec:
    """One attempt: who it is, what to run, within which limits. `environment` is the manifest's."""

    task: str
    number: int
    host: Host
    heartbeat_seconds: float
    commit: str
    command: tuple[str, ...]
    cores: int
    parameters: dict[str, Any]
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    limits: Limits
    environment: dict[str, Any] = field(default_factory=dict)

    @property
    def base(self) -> str:
        """Path of the attempt API for this attempt."""
        return attempt_path(self.task, self.number)

    def save(self, directory: Path, token: str, registries: str = "") -> None:
        """Write the attempt's files; those of its token and of what opens registries are for their owner's
        eyes only."""
        (directory / SPEC).write_text(json.dumps(asdict(self)), encoding="utf-8")
        _seal(directory / TOKEN, token)
        if registries and self.environment.get("image"):
            _seal(directory / REGISTRIES, registries)


def _seal(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


def attempt_path(task: str, number: int) -> str:
    """Path of the attempt API."""
    return f"/api/v1/attempts/{task}/{number}"


def from_claim(task: str, number: int, claim: dict[str, Any], host: Host) -> Spec:
    """The specification that the server's answer to a claim makes."""
    protocol = claim["protocol"]
    outputs = protocol["outputs"].items()
    return Spec(
        task=task,
        number=number,
        host=host,
        heartbeat_seconds=claim["heartbeat_seconds"],
        commit=protocol["commit"],
        command=tuple(protocol["command"]),
        cores=int(protocol["needs"].get("cores", 1)),
        parameters=claim["parameters"],
        inputs=tuple(_known(Input, item) for item in claim["inputs"]),
        outputs=tuple(
            Output(name, item["path"], item["kind"], item.get("optional", False)) for name, item in outputs
        ),
        limits=_known(Limits, claim["limits"]),
        environment=protocol.get("environment", {}),
    )


def _known(kind: type[T], claimed: dict[str, Any]) -> T:
    """What this version knows of it: a newer server may say more."""
    known = {item.name for item in fields(kind)}
    return kind(**{name: value for name, value in claimed.items() if name in known})


def load(directory: Path) -> Spec:
    """Read what `save` wrote."""
    raw = json.loads((directory / SPEC).read_text(encoding="utf-8"))
    host = raw["host"]
    packages = host["packages"] | {"r_index_urls": tuple(host["packages"].get("r_index_urls", ()))}
    # Written by the release before this one it has none.
    images = host.get("images", {})
    images |= {"registries": tuple(images.get("registries", ()))}
    host |= {
        "readonly_paths": tuple(host["readonly_paths"]),
        "packages": Packages(**packages),
        "images": Images(**images),
    }
    return Spec(
        **{
            **raw,
            "host": Host(**host),
            "command": tuple(raw["command"]),
            "inputs": tuple(Input(**item) for item in raw["inputs"]),
            "outputs": tuple(Output(**item) for item in raw["outputs"]),
            "limits": Limits(**raw["limits"]),
        }
    )


def take_token(directory: Path) -> str:
    """Read the token and delete its file: from now on it is in this process's memory only."""
    path = directory / TOKEN
    token = path.read_text(encoding="utf-8")
    path.unlink()
    return token
