"""Bring a protocol and its inputs into the attempt's directory."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import tarfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from labfleet.worker.cache import Cache
from labfleet.worker.client import Away, Client
from labfleet.worker.patience import Patience
from labfleet.worker.spec import Input, Spec

MAX_ENTRIES = 10_000
MAX_BYTES = 1024**3
CHUNK = 256 * 1024
_SHA256 = re.compile(r"[0-9a-f]{64}")
log = logging.getLogger(__name__)


class BadArchive(Exception):
    """The protocol's archive holds what must not be unpacked; the message says which entry."""


def fetch_protocol(client: Client, patience: Patience, spec: Spec, directory: Path) -> None:
    """Unpack the protocol's tar into the empty `directory`; fetch it unless it was fetched before."""
    archive = directory.with_suffix(".tar")
    cache = Cache(Path(spec.host.protocol_cache), spec.host.protocol_cache_bytes)
    if not cache.take(spec.commit, archive):
        patience.call(lambda: _download(client.fetch(f"{spec.base}/protocol"), archive))
        cache.add(spec.commit, archive)
    try:
        _unpack_all(archive, directory)
    except BadArchive:
        cache.drop(spec.commit)
        raise
    finally:
        archive.unlink()


def _unpack_all(archive: Path, directory: Path) -> None:
    try:
        with tarfile.open(archive, "r:") as tar:
            extract(tar, directory)
    except tarfile.TarError as error:
        raise BadArchive(f"The protocol's archive can't be read: {error}.") from None


def in_store(item: Input, store: str) -> Path | None:
    """The dataset's file in the webserver's store where this worker has that mounted at `store`.

    None if it isn't there, can't be read, or has another content: then it is fetched.
    """
    if not store or not _SHA256.fullmatch(item.sha256):
        return None
    path = Path(store, "blobs", item.sha256[:2], item.sha256[2:])
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        log.warning("an input is not taken from the mounted store: %s", error)
        return None
    if digest != item.sha256:
        log.warning("%s in the mounted store is damaged", path)
        return None
    return path


def fetch_input(client: Client, patience: Patience, base: str, item: Input, directory: Path) -> None:
    """Fetch a dataset to `directory/<slot>`; what arrives damaged is fetched again."""
    target = directory / item.slot

    def attempt() -> None:
        digest = _download(client.fetch(f"{base}/inputs/{quote(item.slot)}"), target)
        if digest != item.sha256:
            raise Away(f"The input '{item.slot}' arrived damaged")

    patience.call(attempt)


def _download(chunks: Iterable[bytes], target: Path) -> str:
    digest = hashlib.sha256()
    with target.open("wb") as file:
        for chunk in chunks:
            digest.update(chunk)
            file.write(chunk)
    return digest.hexdigest()


def extract(tar: tarfile.TarFile, directory: Path) -> None:
    """Unpack regular files, directories and links that stay inside; `BadArchive` for anything else."""
    links: dict[PurePosixPath, str] = {}
    total = 0
    for count, member in enumerate(tar, start=1):
        total += member.size
        if count > MAX_ENTRIES or total > MAX_BYTES:
            raise BadArchive(f"The archive has more than {MAX_ENTRIES} entries or {MAX_BYTES} bytes.")
        path = inside(member.name)
        if any(parent in links for parent in (path, *path.parents)):
            raise BadArchive(f"{member.name!r} lies behind a link.")
        if member.issym():
            links[path] = _link(path, member.linkname)
        else:
            _unpack(tar, member, directory / path)
    # Links come last: nothing is ever written through one.
    for path, target in links.items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).symlink_to(target)


def inside(name: str) -> PurePosixPath:
    """The path of an entry; `BadArchive` if it leads out of the archive."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise BadArchive(f"{name!r} leads out of the protocol's directory.")
    return path


def _link(path: PurePosixPath, target: str) -> str:
    resolved = os.path.normpath(path.parent / target)
    if target.startswith("/") or resolved.split("/")[0] == "..":
        raise BadArchive(f"The link {str(path)!r} leads out of the protocol's directory.")
    return target


def _unpack(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
        return
    content = tar.extractfile(member) if member.isreg() else None
    if content is None:
        raise BadArchive(f"{member.name!r} is neither a file, a directory nor a symbolic link.")
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as file:
        while chunk := content.read(CHUNK):
            file.write(chunk)
    target.chmod(0o755 if member.mode & 0o100 else 0o644)
