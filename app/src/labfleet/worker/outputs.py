"""What an attempt has left: only declared outputs count, and only if they are plain files."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote, urlencode

from labfleet.worker.client import Client
from labfleet.worker.patience import Patience
from labfleet.worker.spec import Output

CHUNK = 256 * 1024
MEDIA_TYPES = {
    ".csv": "text/csv",
    ".graphml": "application/xml",
    ".html": "text/html",
    ".json": "application/json",
    ".pdf": "application/pdf",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".tsv": "text/tab-separated-values",
    ".txt": "text/plain",
}


class BadOutput(Exception):
    """An output is missing or is no plain file; the message is for the protocol's author."""


@dataclass(frozen=True)
class Artifact:
    """A checked output. It is opened again without following links when it is sent."""

    output: Output
    directory: Path
    size: int

    @property
    def query(self) -> str:
        """The query of its upload."""
        return urlencode({"kind": self.output.kind, "output": self.output.name})


def collect(declared: Iterable[Output], directory: Path) -> list[Artifact]:
    """The outputs that are there; `BadOutput` names all that are missing, or the one that is no file."""
    found, missing = [], []
    for output in declared:
        try:
            found.append(_artifact(output, directory))
        except FileNotFoundError:
            if not output.optional:
                missing.append(output)
    if missing:
        names = ", ".join(f"'{output.name}' ({output.path})" for output in missing)
        raise BadOutput(f"It ended well but left out what it declares: {names}.")
    return found


def salvage(declared: Iterable[Output], directory: Path, largest: int) -> list[Artifact]:
    """The outputs that are there of a run that was ended; nobody complains about the others.

    A file of `largest` bytes, as large as one may become, was cut off there and is left.
    """
    found = []
    for output in declared:
        with suppress(FileNotFoundError, BadOutput):
            found.append(_artifact(output, directory))
    return [artifact for artifact in found if artifact.size < largest]


def _artifact(output: Output, directory: Path) -> Artifact:
    with opened(directory, output.path) as descriptor:
        return Artifact(output, directory, os.fstat(descriptor.fd).st_size)


class opened:  # noqa: N801  (used like the function `open`)
    """A file below `directory`, opened step by step so that no link on the way is followed.

    `FileNotFoundError` if it isn't there, `BadOutput` if it is no plain file or a link is on the way.
    """

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        self._name = name
        self.fd = -1

    def __enter__(self) -> opened:
        *parents, last = PurePosixPath(self._name).parts
        at = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for part in parents:
                at = self._step(at, part, os.O_DIRECTORY)
            # Non-blocking: a named pipe must not hold us.
            at = self._step(at, last, os.O_NONBLOCK)
            self._require_file(at)
        except BaseException:
            os.close(at)
            raise
        self.fd = at
        return self

    def _require_file(self, descriptor: int) -> None:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise BadOutput(f"The output {self._name} is no plain file.")

    def _step(self, at: int, part: str, flags: int) -> int:
        if part == "..":
            raise BadOutput(f"The output {self._name} leads out of its directory.")
        try:
            below = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | flags, dir_fd=at)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise BadOutput(f"The output {self._name} can't be taken: {error.strerror}.") from None
        os.close(at)
        return below

    def __exit__(self, *exc: object) -> None:
        os.close(self.fd)


def upload(client: Client, patience: Patience, base: str, artifact: Artifact) -> None:
    """Send one artifact; sending it twice leaves one."""
    path, output = artifact.output.path, artifact.output
    suffix = PurePosixPath(path).suffix.lower()
    with opened(artifact.directory, path) as file:
        digest = _digest(file.fd, artifact.size)
        headers = {
            "X-Content-SHA256": digest,
            "Content-Type": MEDIA_TYPES.get(suffix, "application/octet-stream"),
        }
        url = f"{base}/artifacts/{quote(output.path)}?{artifact.query}"
        patience.call(lambda: client.send(url, _chunks(file.fd, artifact.size), artifact.size, headers))


def _digest(descriptor: int, size: int) -> str:
    digest = hashlib.sha256()
    for chunk in _chunks(descriptor, size):
        digest.update(chunk)
    return digest.hexdigest()


def _chunks(descriptor: int, size: int) -> Iterator[bytes]:
    offset = 0
    while offset < size and (chunk := os.pread(descriptor, min(CHUNK, size - offset), offset)):
        yield chunk
        offset += len(chunk)
