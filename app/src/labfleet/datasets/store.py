"""The store: files addressed by the SHA-256 of their content.

    <root>/blobs/ab/cdef…   complete files, never changed, mode 0640
    <root>/tmp/             what is being received; nothing in it outlives its request
    <root>/logs/            logs of attempts (labfleet.datasets.logs)

A file is received into `tmp`, written through to the disk, and moved into place in one step, so
a blob either exists whole or not at all.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, Protocol

from labfleet.errors import Malformed, NotFound, TooLarge, Unavailable

CHUNK = 1024 * 1024
BLOB_MODE = 0o640
DIRECTORY_MODE = 0o750
ABANDONED_SECONDS = 24 * 3600
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Readable(Protocol):
    """What an upload is read from."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes, none at the end."""


class CutOff(Malformed):
    """The body ended before its announced length; nothing was kept."""

    code = "upload_cut_off"
    title = "The upload was cut off"
    default_hint = "Send it again; nothing of it was kept."


class ChecksumMismatch(Malformed):
    """The bytes that arrived are not those that were announced; nothing was kept."""

    code = "checksum_mismatch"
    title = "The checksum does not fit"
    default_hint = "Compute the SHA-256 of the file anew and send both again."


class StoreUnavailable(Unavailable):
    """The store's disk is full or can't be written to."""

    code = "store_unavailable"
    title = "The store can't be written to"
    default_hint = "An admin has to make room on the store's disk; then send it again."


@dataclass(frozen=True)
class Blob:
    """A complete file of the store: its lower-case hexadecimal SHA-256 and its size in bytes."""

    sha256: str
    size: int


class BlobStore:
    """The files below one directory. Any number of processes may use it at once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.blobs = root / "blobs"
        self.tmp = root / "tmp"

    def prepare(self) -> None:
        """Make the directories that are missing."""
        for directory in (self.blobs, self.tmp):
            directory.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)

    def path(self, sha256: str) -> Path:
        """Where the blob lies (or would lie); ValueError for what is no SHA-256."""
        if not _SHA256.fullmatch(sha256):
            raise ValueError(f"no SHA-256 in lower-case hexadecimal: {sha256[:80]!a}")
        return self.blobs / sha256[:2] / sha256[2:]

    def relative(self, sha256: str) -> str:
        """The blob's path below the root, as nginx is told it."""
        return self.path(sha256).relative_to(self.root).as_posix()

    def existing(self, sha256: str) -> Path:
        """The blob's path; `NotFound` if the store lacks it."""
        path = self.path(sha256)
        if not path.is_file():
            raise NotFound(
                f"The content {sha256} is no longer in the store.",
                hint="Tell an admin: the database knows a file that the store has lost.",
            )
        return path

    def open(self, sha256: str) -> BinaryIO:
        """The blob for reading; `NotFound` if the store lacks it."""
        return self.existing(sha256).open("rb")

    def put(
        self,
        source: Readable,
        *,
        limit: int,
        length: int | None = None,
        sha256: str | None = None,
        accept: Callable[[Blob], object] = lambda blob: None,
    ) -> Blob:
        """Receive a file and return its address.

        `limit`: most bytes that are taken (`TooLarge`). `length`: how many were announced, if that
        is known (`CutOff` if fewer come). `sha256`: what the sender says it is (`ChecksumMismatch`).
        `accept` has the last word once all has arrived. Whatever is raised, nothing stays behind.
        """
        if length is not None and length > limit:
            raise too_large(limit)
        with self._receiving() as target:
            blob = _copy(source, target, limit)
            if length is not None and blob.size != length:
                raise CutOff(f"{blob.size} of {length} bytes arrived.")
            if sha256 is not None and blob.sha256 != sha256.lower():
                raise ChecksumMismatch(f"Announced was {sha256[:80]!a}, received was {blob.sha256}.")
            accept(blob)
            self._keep(Path(target.name), blob)
        return blob

    def writable(self) -> bool:
        """Whether a file can be made just now."""
        try:
            with tempfile.TemporaryFile(dir=self.tmp) as probe:
                probe.write(b"labfleet")
                probe.flush()
        except OSError:
            return False
        return True

    def sweep(self, older_than: float = ABANDONED_SECONDS) -> int:
        """Remove what a killed process left in `tmp`; returns how many files."""
        removed = 0
        for path in self.tmp.iterdir():
            try:
                if path.stat().st_mtime < time.time() - older_than:
                    path.unlink()
                    removed += 1
            except FileNotFoundError:
                continue
        return removed

    @contextmanager
    def _receiving(self) -> Iterator[IO[bytes]]:
        try:
            target = tempfile.NamedTemporaryFile(dir=self.tmp, prefix="in-", delete=False)  # noqa: SIM115
        except OSError as error:
            raise StoreUnavailable(f"{self.tmp}: {error.strerror}.") from error
        try:
            yield target
        finally:
            # What a full disk has not taken is still in the buffer, and closing tries it once more.
            with suppress(OSError):
                target.close()
            Path(target.name).unlink(missing_ok=True)

    def _keep(self, received: Path, blob: Blob) -> None:
        """Move the complete file into place. The same content twice is the same blob."""
        place = self.path(blob.sha256)
        try:
            place.parent.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
            received.chmod(BLOB_MODE)
            received.replace(place)
            _sync_directory(place.parent)
            _sync_directory(self.blobs)
        except OSError as error:
            raise StoreUnavailable(f"{place}: {error.strerror}.") from error


def too_large(limit: int) -> TooLarge:
    """The error for a body above `limit` bytes."""
    return TooLarge(f"The body is larger than the limit of {limit} bytes.", limit=limit)


def _copy(source: Readable, target: IO[bytes], limit: int) -> Blob:
    digest, size = hashlib.sha256(), 0
    while chunk := _read(source):
        size += len(chunk)
        if size > limit:
            raise too_large(limit)
        digest.update(chunk)
        _write(target, chunk)
    try:
        target.flush()
        os.fsync(target.fileno())
    except OSError as error:
        raise StoreUnavailable(f"{error.strerror}.") from error
    return Blob(digest.hexdigest(), size)


def _read(source: Readable) -> bytes:
    try:
        return source.read(CHUNK)
    except OSError as error:  # the connection ended, or its chunks made no sense
        raise CutOff(f"The body ended early: {error}.") from error


def _write(target: IO[bytes], chunk: bytes) -> None:
    try:
        target.write(chunk)
    except OSError as error:
        raise StoreUnavailable(f"{error.strerror}.") from error


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
