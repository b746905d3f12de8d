"""Read a crate that somebody gives us, and trust nothing in it: sizes, paths and hashes are looked at first.

Nothing is unpacked: files are read one by one as they are needed. Whether a protocol is good is for the
server to say, as with any other.
"""

from __future__ import annotations

import hashlib
import io
import json
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote

from labfleet.crates import terms
from labfleet.errors import Invalid
from labfleet.protocols.archive import DEFAULT_LIMITS, safe_path

METADATA_BYTES = 256 * 1024**2
REQUEST_BYTES = 64 * 1024**2
MEMBERS = 100_000
CHUNK = 1024 * 1024


class InvalidCrate(Invalid):
    """The file is no crate of a job, or holds what it does not say."""

    code = "invalid_crate"
    title = "The crate can't be used"
    default_hint = "Import what 'labfleet export' has written, as it came."


@dataclass(frozen=True)
class CrateInput:
    """A file that the job took: the ids of the datasets that it was, and where it lies."""

    datasets: tuple[str, ...]
    name: str
    path: str
    sha256: str
    size: int


@dataclass(frozen=True)
class CrateProtocol:
    """A protocol's version. `folder` has its files, if it has any in the crate."""

    name: str
    version: str
    commit: str
    tree: str
    folder: str


class Crate:
    """An open crate; use it in a `with` block. `InvalidCrate` for whatever is wrong with it."""

    def __init__(self, path: Path) -> None:
        try:
            self._zip = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise InvalidCrate(f"{path} is no ZIP file that can be read: {error}.") from None
        try:
            self._members = self._checked()
            self.request = self._specification()
            self._entities = self._graph()
        except BaseException:
            self._zip.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._zip.close()

    def inputs(self) -> list[CrateInput]:
        """The files that are datasets."""
        return [found for entity in self._entities if (found := self._input(entity))]

    def protocols(self) -> list[CrateProtocol]:
        """The protocols' versions that the job used."""
        return [found for entity in self._entities if (found := _protocol(entity))]

    def save(self, item: CrateInput, target: Path) -> None:
        """Write a file of the crate to `target`; it must have the size and the hash that it should."""
        if item.path.startswith(terms.DATASET):
            raise InvalidCrate(
                f"The crate has no content of the input '{item.name[:80]}'.",
                hint="Whoever made it could not see it; ask the owner of the job to share its data.",
            )
        digest, size = hashlib.sha256(), 0
        with target.open("wb") as file:
            for piece in self._pieces(item.path, item.size):
                digest.update(piece)
                size += len(piece)
                file.write(piece)
        if (size, digest.hexdigest()) != (item.size, item.sha256):
            raise InvalidCrate(f"'{item.path}' is not the file that the crate describes.")

    def packed(self, protocol: CrateProtocol) -> bytes:
        """The files of a protocol as a tar, within what a protocol may measure."""
        buffer, total, count = io.BytesIO(), 0, 0
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for name, info in self._members.items():
                if not name.startswith(protocol.folder) or name == protocol.folder:
                    continue
                total, count = total + info.file_size, count + 1
                if total > DEFAULT_LIMITS.total_bytes or count > DEFAULT_LIMITS.entries:
                    raise InvalidCrate(f"The protocol {protocol.name} is larger than one may be.")
                content = b"".join(self._pieces(name, DEFAULT_LIMITS.file_bytes))
                self._pack(tar, name.removeprefix(protocol.folder), info, content)
        if not count:
            raise InvalidCrate(
                f"The crate has no files of the protocol {protocol.name} {protocol.version}.",
                hint="Whoever made it could not see them; ask the protocol's owner.",
            )
        return buffer.getvalue()

    @staticmethod
    def _pack(tar: tarfile.TarFile, name: str, info: zipfile.ZipInfo, content: bytes) -> None:
        entry, mode = tarfile.TarInfo(name), info.external_attr >> 16
        if stat.S_ISLNK(mode):
            entry.type, entry.linkname = tarfile.SYMTYPE, content.decode("utf-8", "replace")
            tar.addfile(entry)
            return
        entry.mode, entry.size = 0o755 if mode & 0o100 else 0o644, len(content)
        tar.addfile(entry, io.BytesIO(content))

    def _checked(self) -> dict[str, zipfile.ZipInfo]:
        infos = self._zip.infolist()
        if len(infos) > MEMBERS:
            raise InvalidCrate(f"The crate has more than {MEMBERS} files.")
        members = {info.filename: info for info in infos if not info.is_dir()}
        if len(members) != sum(not info.is_dir() for info in infos):
            raise InvalidCrate("A file is in the crate twice.")
        for name, info in members.items():
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                raise InvalidCrate(f"'{name[:80]}' leads out of the crate.")
            swollen = info.file_size > DEFAULT_LIMITS.ratio * max(info.compress_size, 1)
            if swollen and info.file_size > DEFAULT_LIMITS.ratio_from:
                raise InvalidCrate(f"'{name[:80]}' unpacks to far more than it measures.")
        for name in (terms.METADATA, terms.REQUEST):
            if name not in members:
                raise InvalidCrate(f"There is no {name} in it: it is no crate of a Labfleet job.")
        return members

    def _pieces(self, name: str, most: int) -> Iterator[bytes]:
        info = self._members.get(name)
        if info is None:
            raise InvalidCrate(f"'{name[:80]}' is described, but not in the crate.")
        size = 0
        try:
            with self._zip.open(info) as file:
                while piece := file.read(CHUNK):
                    size += len(piece)
                    if size > most:
                        raise InvalidCrate(f"'{name[:80]}' is larger than {most} bytes.")
                    yield piece
        except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError) as error:
            raise InvalidCrate(f"'{name[:80]}' can't be read: {error}.") from None

    def _json(self, name: str, most: int) -> Any:
        try:
            return json.loads(b"".join(self._pieces(name, most)))
        except (ValueError, RecursionError) as error:
            raise InvalidCrate(f"{name} is no JSON: {error}.") from None

    def _specification(self) -> dict[str, Any]:
        request = self._json(terms.REQUEST, REQUEST_BYTES)
        if not isinstance(request, dict):
            raise InvalidCrate(f"{terms.REQUEST} is no job's specification.")
        return request

    def _graph(self) -> list[dict[str, Any]]:
        document = self._json(terms.METADATA, METADATA_BYTES)
        graph = document.get("@graph") if isinstance(document, dict) else None
        if not isinstance(graph, list):
            raise InvalidCrate(f"{terms.METADATA} has no @graph.")
        return [entity for entity in graph if isinstance(entity, dict)]

    def _input(self, entity: dict[str, Any]) -> CrateInput | None:
        datasets = _identifiers(entity, terms.DATASET)
        if not datasets:
            return None
        try:
            path, size = unquote(str(entity["@id"])), int(entity["contentSize"])
            return CrateInput(datasets, str(entity["name"]), path, str(entity["sha256"]), size)
        except (KeyError, ValueError):
            raise InvalidCrate(
                f"The input '{str(entity.get('@id'))[:80]}' lacks name, size or SHA-256."
            ) from None


def _protocol(entity: dict[str, Any]) -> CrateProtocol | None:
    commits, trees = _identifiers(entity, terms.COMMIT), _identifiers(entity, terms.TREE)
    if not commits or not trees:
        return None
    folder = unquote(str(entity.get("@id", "")))
    safe_path(folder)
    return CrateProtocol(
        str(entity.get("name", "")), str(entity.get("version", "")), commits[0], trees[0], folder
    )


def _identifiers(entity: dict[str, Any], prefix: str) -> tuple[str, ...]:
    given = entity.get("identifier")
    values = given if isinstance(given, list) else [given]
    return tuple(
        value.removeprefix(prefix) for value in values if isinstance(value, str) and value.startswith(prefix)
    )
