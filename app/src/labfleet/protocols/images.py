"""Container images that protocols name: their references, and the documents that an image is made of.

Pure: what the documents are read from is elsewhere. Whatever is wrong with one comes as `BadImage`; that it
has the digest by which it was asked for is looked at by whoever reads it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

ARCHIVE = ".tar"
"""How the path of an archive in a protocol ends."""
INDEX = "index.json"
"""The document with which an archive begins."""
MAX_DOCUMENT_BYTES = 4 * 1024**2
MAX_LAYERS = 500
MAX_VARIABLES_BYTES = 64 * 1024
MACHINES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv7l": "arm",
    "i686": "386",
    "ppc64le": "ppc64le",
    "riscv64": "riscv64",
    "s390x": "s390x",
}
"""What images call a machine, by what its kernel calls it."""
DIGEST_HINT = (
    "Find it by 'skopeo inspect --format \"{{.Digest}}\" docker://REGISTRY/NAME:TAG' (or 'docker buildx "
    "imagetools inspect'), and write REGISTRY/NAME@sha256:…. A tag may lead to another image tomorrow."
)
ARCHIVE_HINT = "Save one by 'skopeo copy docker://REGISTRY/NAME@sha256:… oci-archive:image.tar'."

_HOST = r"(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*(?::[0-9]{1,5})?"
_WORD = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"(?P<registry>{_HOST})/(?P<name>{_WORD}(?:/{_WORD})*)(?::[A-Za-z0-9_][A-Za-z0-9_.-]*)?"
    r"@sha256:(?P<digest>[0-9a-f]{64})"
)
_NAME = re.compile(rf"(?:{_HOST}/)?{_WORD}(?:/{_WORD})*(?::[A-Za-z0-9_][A-Za-z0-9_.-]*)?")
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LAYER = re.compile(r"application/vnd\..*\.tar(?:[.+](?:gzip|zstd))?")


class BadImage(Exception):
    """It can't be used; the message says why."""


class WrongMachine(BadImage):
    """It is for machines of another kind."""


@dataclass(frozen=True)
class Reference:
    """An image in a registry; `digest` is that of its manifest or index, 64 hexadecimal digits."""

    registry: str
    name: str
    digest: str

    def __str__(self) -> str:
        """As a manifest names it."""
        return f"{self.registry}/{self.name}@sha256:{self.digest}"

    def within(self, allowed: Sequence[str]) -> bool:
        """Whether it lies in one of these: registries, or parts of one (`registry.example.org/lab`)."""
        return any(f"{self.registry}/{self.name}".startswith(f"{place}/") for place in allowed)

    def of(self, digest: str) -> Reference:
        """Another one beside it."""
        return Reference(self.registry, self.name, digest)


def is_archive(value: str) -> bool:
    """Whether it names an archive of the protocol, and no image in a registry."""
    return value.endswith(ARCHIVE) and "@" not in value


def read_reference(value: str) -> Reference:
    """The image that a text names; `ValueError` says what is missing."""
    match = _REFERENCE.fullmatch(value)
    if match is None:
        if "@" not in value and _NAME.fullmatch(value):
            raise ValueError(f"the image is not named by its digest. {DIGEST_HINT}")
        raise ValueError(
            "write registry.example.org/lab/tool@sha256:… with all 64 digits, "
            "or an OCI archive of the protocol, for example image.tar"
        )
    registry = match["registry"]
    if "." not in registry and ":" not in registry and registry != "localhost":
        raise ValueError(
            f"'{registry}' is no registry; write it before the name, for example docker.io/{registry}/…, "
            "or docker.io/library/… for an image without an owner"
        )
    return Reference(registry, match["name"], match["digest"])


@dataclass(frozen=True)
class Part:
    """A document or a layer: SHA-256 and size, and for which machine it is, if that is said
    (`linux/amd64`)."""

    digest: str
    size: int
    machine: str = ""


@dataclass(frozen=True)
class Index:
    """Images for several machines."""

    parts: tuple[Part, ...]

    def chosen(self, machine: str) -> Part:
        """The one for a machine (`linux/amd64`); `WrongMachine` if there is none."""
        if len(self.parts) == 1 and not self.parts[0].machine:
            return self.parts[0]
        for part in self.parts:
            if part.machine == machine:
                return part
        known = sorted({part.machine for part in self.parts if part.machine})
        if not known:
            raise BadImage(f"It has {len(self.parts)} images and does not say for which machines they are.")
        raise WrongMachine(f"It is for {', '.join(known)}; this worker is {machine}.")


@dataclass(frozen=True)
class ImageManifest:
    """One image: its configuration and its layers, the lowest first."""

    config: Part
    layers: tuple[Part, ...]

    @property
    def size(self) -> int:
        """Bytes of all layers, packed as they are."""
        return sum(layer.size for layer in self.layers)


def machine_of(kernel: str) -> str:
    """What images call a machine whose kernel calls it so."""
    return f"linux/{MACHINES.get(kernel, kernel)}"


def read_document(content: bytes) -> Index | ImageManifest:
    """A manifest or an index of OCI's or of Docker's, in its second format."""
    document = _mapping(_json(content))
    if "manifests" in document:
        return Index(tuple(_of_machine(item) for item in _list(document["manifests"])))
    if "config" not in document or "layers" not in document:
        raise BadImage(
            "It is in a format that is not known here (Docker's first one, perhaps). Build it anew."
        )
    layers = _list(document["layers"])
    if len(layers) > MAX_LAYERS:
        raise BadImage(f"It has {len(layers)} layers; {MAX_LAYERS} are taken.")
    return ImageManifest(_part(document["config"]), tuple(_layer(item) for item in layers))


def read_config(content: bytes, machine: str) -> dict[str, str]:
    """The variables that an image's configuration sets; `WrongMachine` if it is for another machine."""
    document = _mapping(_json(content))
    is_for = f"{document.get('os')}/{document.get('architecture')}"
    if is_for != machine:
        raise WrongMachine(f"It is for {is_for}; this worker is {machine}.")
    lines = _list(_mapping(document.get("config") or {}).get("Env") or [])
    if sum(len(str(line)) for line in lines) > MAX_VARIABLES_BYTES:
        raise BadImage(f"Its variables (Env) take more than {MAX_VARIABLES_BYTES} bytes.")
    pairs = (str(line).partition("=") for line in lines)
    return {name: value for name, _, value in pairs if _VARIABLE.fullmatch(name) and "\0" not in value}


def _of_machine(item: Any) -> Part:
    platform = _mapping(_mapping(item).get("platform") or {})
    part = _part(item)
    if not platform:
        return part
    return Part(part.digest, part.size, f"{platform.get('os')}/{platform.get('architecture')}")


def _layer(item: Any) -> Part:
    kind = str(_mapping(item).get("mediaType"))
    if not _LAYER.fullmatch(kind) or "foreign" in kind or "nondistributable" in kind:
        raise BadImage(f"It has a layer of a kind that can't be unpacked: {kind[:100]}.")
    return _part(item)


def _part(item: Any) -> Part:
    found = _mapping(item)
    digest, size = _DIGEST.fullmatch(str(found.get("digest"))), found.get("size")
    if digest is None or type(size) is not int or size < 0:
        raise BadImage("A part of it is not named by its SHA-256 and size.")
    return Part(digest[1], size)


def _json(content: bytes) -> Any:
    if len(content) > MAX_DOCUMENT_BYTES:
        raise BadImage(f"A document of it is larger than {MAX_DOCUMENT_BYTES} bytes.")
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        raise BadImage("A document of it is no JSON.") from None


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadImage("A document of it is not what it should be.")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise BadImage("A document of it is not what it should be.")
    return value
