"""A tree of files out of a container image: its documents are read, its layers fetched and unpacked.

`skopeo` asks the registry, in the only sandbox that has the network; what it brings is compared with the
digests from the one in the manifest downwards, and unpacked by `layers.py` in another. The site's own folder
comes first: there lies an image as `skopeo copy docker://… dir:FOLDER/DIGEST` leaves it.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from labfleet.protocols import images
from labfleet.protocols.images import BadImage, ImageManifest, Index, Reference
from labfleet.worker import layers, sandbox
from labfleet.worker.building import DOWNLOADS, ENTRIES, MIB, Allowance, Build, Recipe, Step, one_line
from labfleet.worker.layers import Layer
from labfleet.worker.preparing import PYTHON, BadEnvironment, NoEnvironment
from labfleet.worker.sandbox import IDENTITY, IMAGE, PROTOCOL, TREE
from labfleet.worker.spec import REGISTRIES, Spec

SKOPEO = "/usr/bin/skopeo"
UNPACKER, PLAN = f"{sandbox.ROOT}/layers.py", f"{sandbox.ROOT}/layers.json"
FOLDER = f"{sandbox.ROOT}/folder"
AUTHORITIES, LOGINS = f"{sandbox.ROOT}/authorities", f"{sandbox.ROOT}/{REGISTRIES}"
HERE, FETCHED = f"{IMAGE}/{DOWNLOADS}", "fetched"
RETRIES = 2
MAX_DEPTH = 3
"""How many indexes may lead to an image, one to the next."""
SHOWN_DIGITS = 12

_SAID = re.compile(r'level=fatal msg="(.*)"$', re.MULTILINE)
_UNKNOWN = re.compile(r"manifest unknown|name unknown|not known to registry|NAME_INVALID|\bnot found\b")
_CLOSED = re.compile(r"unauthorized|authentication required|access to the resource is denied|denied:")


@dataclass(frozen=True)
class Documents:
    """Where documents and layers lie, on this machine and in the sandbox."""

    directory: Path
    place: str

    def read(self, digest: str) -> bytes:
        """A document; `BadImage` if it isn't there as its digest says."""
        for name in (digest, f"{digest}.manifest.json", "manifest.json"):
            content = _content(self.directory / name)
            if content is not None and hashlib.sha256(content).hexdigest() == digest:
                return content
        raise BadImage(f"It lacks the part sha256:{digest}, or has it damaged.")


class ImageRecipe(Recipe):
    """From the site's folder, from a registry, or from an archive in the protocol."""

    place = IMAGE
    ca_file = None

    def __init__(self, spec: Spec) -> None:
        self._images = spec.host.images
        self._machine = images.machine_of(platform.machine())
        self._image = str(spec.environment["image"])
        self._variables: dict[str, str] = {}
        self._digest = ""
        self.allowance = Allowance(
            self._images.max_seconds,
            self._images.max_bytes,
            name="image",
            doing="preparing",
            done="ready",
            settings=("worker_image_seconds", "worker_image_bytes"),
            remedy="Leave out what the program does not need",
        )

    def read(self, lock: str, content: bytes) -> str:
        """There is nothing to be read of it yet."""
        del content
        return short(lock)

    def make(self, build: Build) -> dict[str, str]:
        """Documents, layers, tree. Packages are not known."""
        (build.target / DOWNLOADS).mkdir()
        (build.target / TREE).mkdir(mode=0o700)
        try:
            documents, manifest = self._found(build)
            self._variables = images.read_config(documents.read(manifest.config.digest), self._machine)
        except BadImage as error:
            raise BadEnvironment(f"The image {short(self._image)} can't be used: {error}") from None
        self._unpack(build, documents, manifest)
        return {}

    def described(self) -> dict[str, Any]:
        """What runs with it are told, and set."""
        return {"digest": f"sha256:{self._digest}", "variables": self._variables}

    def _found(self, build: Build) -> tuple[Documents, ImageManifest]:
        """Its documents, and its layers beside them."""
        if images.is_archive(self._image):
            return self._in_archive(build)
        reference = images.read_reference(self._image)
        self._digest = reference.digest
        kept = Path(self._images.folder, reference.digest)
        if self._images.folder and kept.is_dir():
            documents = Documents(kept, FOLDER)
            return documents, self._fitting(self._chosen(reference.digest, documents.read))
        return self._in_registry(build, reference)

    def _in_archive(self, build: Build) -> tuple[Documents, ImageManifest]:
        plan = {"archive": f"{PROTOCOL}/{self._image}"}
        self._run(build, plan, {}, lambda told: f"{self._image}: {told}")
        documents = Documents(build.target / DOWNLOADS, HERE)
        index = _content(documents.directory / images.INDEX)
        if index is None:
            raise BadImage(f"It is no OCI archive. {images.ARCHIVE_HINT}")
        first = images.read_document(index)
        if isinstance(first, ImageManifest):
            raise BadImage(f"Its {images.INDEX} is none.")
        self._digest = first.chosen(self._machine).digest
        return documents, self._fitting(self._chosen(self._digest, documents.read))

    def _in_registry(self, build: Build, reference: Reference) -> tuple[Documents, ImageManifest]:
        if not reference.within(self._images.registries):
            known = ", ".join(self._images.registries) or "none"
            raise BadImage(
                f"The registry {reference.registry} is not asked here (allowed: {known}). Use one of these, "
                "ask your admin (worker_image_registries), or bring the image along as an OCI archive."
            )
        asked = Documents(build.target / DOWNLOADS, HERE)

        def read(digest: str) -> bytes:
            command = f'exec {SKOPEO} "$@" > {HERE}/{digest}'
            words = ["inspect", "--raw", *self._access("--"), f"docker://{reference.of(digest)}"]
            self._ask(build, ["/bin/sh", "-c", command, "sh", *words], reference)
            return asked.read(digest)

        named: list[str] = []
        manifest = self._fitting(self._chosen(reference.digest, read, named))
        build.say(f"{short(self._image)}, {manifest.size // MIB} MiB to fetch", measured=True)
        words = ["--insecure-policy", "copy", "--quiet", "--preserve-digests", *self._access("--src-")]
        self._ask(
            build, [SKOPEO, *words, f"docker://{reference.of(named[-1])}", f"dir:{HERE}/{FETCHED}"], reference
        )
        return Documents(asked.directory / FETCHED, f"{HERE}/{FETCHED}"), manifest

    def _chosen(
        self, digest: str, read: Callable[[str], bytes], named: list[str] | None = None
    ) -> ImageManifest:
        """The manifest of the image for this machine; `named` gets the digests on the way to it."""
        for _ in range(MAX_DEPTH):
            if named is not None:
                named.append(digest)
            document = images.read_document(read(digest))
            if not isinstance(document, Index):
                return document
            digest = document.chosen(self._machine).digest
        raise BadImage("It is an index of indexes of indexes.")

    def _fitting(self, manifest: ImageManifest) -> ImageManifest:
        if manifest.size > self._images.max_bytes:
            raise BadEnvironment(self.allowance.too_large)
        return manifest

    def _access(self, prefix: str) -> list[str]:
        """The files that it takes to be let in; what they are called depends on the command."""
        words = [f"{prefix}cert-dir={AUTHORITIES}"] if self._images.ca_file else []
        return [*words, f"--authfile={LOGINS}", f"--retry-times={RETRIES}"]

    def _ask(self, build: Build, command: list[str], reference: Reference) -> None:
        logins = build.places.directory / REGISTRIES
        if not logins.exists():
            logins.write_text("{}", encoding="utf-8")
        files = {LOGINS: logins}
        if self._images.ca_file:
            files[f"{AUTHORITIES}/ca.crt"] = Path(self._images.ca_file)
        build.sure(build.run(Step(command, True, files)), lambda words: _refused(words, reference))

    def _unpack(self, build: Build, documents: Documents, manifest: ImageManifest) -> None:
        build.say(f"{short(self._image)}, unpacking {len(manifest.layers)} layers", measured=True)
        wanted = [asdict(Layer(f"{documents.place}/{part.digest}", part.digest)) for part in manifest.layers]
        for part in manifest.layers:
            if not (documents.directory / part.digest).is_file():
                raise BadEnvironment(
                    f"The image {short(self._image)} can't be used: It lacks the layer sha256:{part.digest}."
                )
        plan = {"root": f"{IMAGE}/{TREE}", "layers": wanted, "files": sorted(IDENTITY)}
        files = {FOLDER: documents.directory} if documents.place == FOLDER else {}
        self._run(build, plan, files, str)
        report = json.loads((build.target / DOWNLOADS / layers.REPORT).read_text(encoding="utf-8"))
        if report["left_out"]:
            build.note(f"{report['left_out']} devices, pipes or sockets of the image were left out")

    def _run(
        self, build: Build, plan: dict[str, Any], files: dict[str, Path], told: Callable[[str], str]
    ) -> None:
        """Have `layers.py` do something, without the network."""
        file = build.places.directory / "layers.json"
        limits = {"work": HERE, "bytes": self._images.max_bytes, "entries": ENTRIES}
        file.write_text(json.dumps({**plan, **limits}), encoding="utf-8")
        shown = {UNPACKER: Path(layers.__file__), PLAN: file, **files}
        done = build.run(Step([PYTHON, "-I", "-S", UNPACKER, PLAN], False, shown))
        if done.exit_code == layers.UNFIT:
            reason = told(one_line(done.words))
            raise BadEnvironment(f"The image {short(self._image)} can't be used: {reason}")
        build.sure(done, lambda words: NoEnvironment(f"The image could not be unpacked: {one_line(words)}"))


def short(image: str) -> str:
    """A name for people: some digits of a digest are enough."""
    name, at, digest = image.partition("@sha256:")
    return f"{name}{at}{digest[:SHOWN_DIGITS]}…" if at else name


def _refused(words: str, reference: Reference) -> Exception:
    """By what skopeo says, which is its own message on one line."""
    match = _SAID.search(words)
    said = one_line(match[1] if match else words)
    if _UNKNOWN.search(words):
        return BadEnvironment(
            f"The registry {reference.registry} has no image {reference.name} with the digest "
            f"sha256:{reference.digest}. {images.DIGEST_HINT}"
        )
    if _CLOSED.search(words):
        return BadEnvironment(
            f"The registry {reference.registry} does not give the image {reference.name} to this worker: "
            f"{said}. Is its name right? For one that is not public ask your admin "
            "(worker_image_registry_auth)."
        )
    return NoEnvironment(
        f"The registry {reference.registry} did not answer: {said}. An admin may keep the image in a folder "
        "(worker_image_folder), or a protocol bring it along as an OCI archive."
    )


def _content(path: Path) -> bytes | None:
    """What stands in a document; nothing if there is none, or something else than a file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        try:
            return file.read(images.MAX_DOCUMENT_BYTES + 1)
        except OSError:  # a directory
            return None
