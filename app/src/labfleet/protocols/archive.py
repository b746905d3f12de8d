"""Read a tar (plain or gzip) that nobody vouches for into a directory.

Only regular files, directories and links that stay inside are accepted; how much comes out is
bounded while it is read, so that a bomb stops early.
"""

from __future__ import annotations

import gzip
import tarfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from labfleet.errors import Invalid

CHUNK = 256 * 1024
MIB = 1024**2


@dataclass(frozen=True)
class Limits:
    """What a protocol may measure, unpacked. `ratio`: unpacked to packed, judged above `ratio_from` bytes."""

    total_bytes: int = 64 * MIB
    file_bytes: int = 32 * MIB
    entries: int = 2000
    path_length: int = 200
    ratio: int = 200
    ratio_from: int = 4 * MIB


DEFAULT_LIMITS = Limits()


class ArchiveError(Invalid):
    """The archive is damaged, too large or holds something that a protocol may not hold."""

    code = "invalid_archive"
    title = "The archive can't be used"
    default_hint = "Pack the protocol's directory with 'tar -cf protocol.tar -C DIRECTORY .'."


def extract(source: BinaryIO, directory: Path, limits: Limits = DEFAULT_LIMITS) -> None:
    """Unpack `source` into the empty `directory`; `ArchiveError` says what can't be accepted.

    After an error the directory may hold a part of the archive: throw it away.
    """
    packed = _Counted(source)
    bounded = _Bounded(_opened(packed), packed, limits)
    try:
        with tarfile.open(fileobj=cast(BinaryIO, bounded), mode="r|") as tar:
            _Unpacker(directory, limits).unpack(tar)
    except ArchiveError:
        raise
    except (tarfile.TarError, zlib.error, EOFError, ValueError, gzip.BadGzipFile) as error:
        raise ArchiveError(f"The archive is damaged: {error or 'it ends too early'}.") from None


def safe_path(name: str, limits: Limits = DEFAULT_LIMITS) -> PurePosixPath:
    """`name` as a path inside the protocol; `ArchiveError` for absolute, `..`, over-long or odd names."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise ArchiveError(f"'{_shown(name)}' leads out of the protocol's directory.")
    if len(name) > limits.path_length:
        raise ArchiveError(f"'{_shown(name)}' is longer than {limits.path_length} characters.")
    if not name.isprintable() or "\\" in name:
        raise ArchiveError(f"'{_shown(name)}' has a character that a file name may not have.")
    return path


def safe_target(link: PurePosixPath, target: str) -> None:
    """Refuse a link that could lead outside: absolute, too many `..`, or `..` after a name."""
    parts = PurePosixPath(target).parts
    ups = next((index for index, part in enumerate(parts) if part != ".."), len(parts))
    if target.startswith("/") or ups > len(link.parts) - 1 or ".." in parts[ups:]:
        raise ArchiveError(f"The link '{link}' → '{_shown(target)}' leads out of the protocol's directory.")


def _shown(name: str) -> str:
    text = name if len(name) <= 80 else f"{name[:80]}…"
    return text.encode("unicode_escape").decode() if not text.isprintable() else text


@dataclass
class _Unpacker:
    directory: Path
    limits: Limits
    links: dict[PurePosixPath, str] = field(default_factory=dict)
    entries: int = 0
    total: int = 0

    def unpack(self, tar: tarfile.TarFile) -> None:
        for member in tar:
            self.entries += 1
            if self.entries > self.limits.entries:
                raise ArchiveError(f"The archive has more than {self.limits.entries} entries.")
            path = safe_path(member.name, self.limits)
            if path.parts:
                self._accept(tar, member, path)
        # Links come last: nothing is ever written through one.
        for path, target in self.links.items():
            self._place(path).symlink_to(target)

    def _accept(self, tar: tarfile.TarFile, member: tarfile.TarInfo, path: PurePosixPath) -> None:
        if any(parent in self.links for parent in (path, *path.parents)):
            raise ArchiveError(f"'{path}' lies behind a link, or is there twice.")
        if member.isdir():
            self._directory(path)
        elif member.issym():
            safe_target(path, member.linkname)
            self.links[path] = member.linkname
        elif member.isreg() and not member.issparse():
            self._file(tar, member, path)
        else:
            raise ArchiveError(f"'{path}' is neither a file nor a directory (hard link, device, sparse …).")

    def _directory(self, path: PurePosixPath) -> None:
        try:
            (self.directory / path).mkdir(parents=True, exist_ok=True)
        except OSError:
            raise ArchiveError(f"'{path}' is there twice, as a file and as a directory.") from None

    def _place(self, path: PurePosixPath) -> Path:
        self._directory(path.parent)
        place = self.directory / path
        if place.exists() or place.is_symlink():
            raise ArchiveError(f"'{path}' is there twice.")
        return place

    def _file(self, tar: tarfile.TarFile, member: tarfile.TarInfo, path: PurePosixPath) -> None:
        self.total += member.size
        if member.size > self.limits.file_bytes or self.total > self.limits.total_bytes:
            raise ArchiveError(
                f"'{path}' is too large: {self.limits.file_bytes} bytes a file and "
                f"{self.limits.total_bytes} in all are allowed."
            )
        place = self._place(path)
        content = tar.extractfile(member)
        if content is None:  # only for kinds that were refused before
            raise ArchiveError(f"'{path}' has no content.")
        with place.open("xb") as file:
            while chunk := content.read(CHUNK):
                file.write(chunk)
        place.chmod(0o755 if member.mode & 0o100 else 0o644)


class _Counted:
    """Counts what was read of the packed bytes; puts the first two back after looking at them."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._head = source.read(2)
        self.count = len(self._head)
        self.gzipped = self._head == b"\x1f\x8b"

    def read(self, size: int = -1) -> bytes:
        size = CHUNK if size < 0 else size
        if self._head:
            head, self._head = self._head[:size], self._head[size:]
            return head
        chunk = self._source.read(size)
        self.count += len(chunk)
        return chunk


def _opened(packed: _Counted) -> BinaryIO:
    source = cast(BinaryIO, packed)
    return cast(BinaryIO, gzip.GzipFile(fileobj=source, mode="rb")) if packed.gzipped else source


class _Bounded:
    """The unpacked stream, ended by an error where it becomes larger than it may be."""

    def __init__(self, stream: BinaryIO, packed: _Counted, limits: Limits) -> None:
        self._stream = stream
        self._packed = packed
        self._limits = limits
        # Each entry has a header of 512 bytes and padding, and may have a long-name header before it.
        self._most = limits.total_bytes + limits.entries * 4096 + 10240
        self._count = 0

    def read(self, size: int = -1) -> bytes:
        chunk = self._stream.read(size)
        self._count += len(chunk)
        limits = self._limits
        swollen = self._count > limits.ratio_from and self._count > limits.ratio * self._packed.count
        if self._count > self._most or swollen:
            raise ArchiveError("The archive unpacks to far more than a protocol may measure.")
        return chunk
