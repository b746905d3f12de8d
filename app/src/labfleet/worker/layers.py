"""Unpack an image: its archive into documents and layers, and its layers onto one another into a tree.

Run by the machine's Python in a sandbox of its own, without the network; nothing but Python's own library is
imported. Nobody knows who made an image, so nothing in it is believed: every file lands below the tree,
whatever its name says and whatever the links are that lead to its place. Of modes only the bits for reading,
writing and running are kept; owners, attributes, devices, pipes and sockets are not.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import json
import os
import resource
import shutil
import stat
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

UNFIT = 3
"""Exit code: it is the image's fault."""
REPORT = "report.json"
OWN = ("dev", "labfleet", "proc", "sys", "tmp")
"""What a sandbox has at its top itself, so that nothing of an image is seen there."""
MAX_HOPS, MAX_DEPTH = 40, 200
MAX_TOP = 200
"""Names at the top of a tree: each becomes an argument of bubblewrap."""
MEMORY_BYTES = 1024**3
CHUNK = 1024**2
GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
WHITEOUT, OPAQUE, AUFS = ".wh.", ".wh..wh..opq", ".wh..wh."
_OURS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EMFILE, errno.EFBIG})


class Unfit(Exception):
    """The image can't be used; the message says why."""


class Tree:
    """A directory that becomes the image's. `most` are the bytes and the entries that it may have."""

    def __init__(self, root: Path, most: tuple[int, int]) -> None:
        self._root = str(root)
        self._bytes, self._entries = most
        self._links: dict[str, str] = {}
        self._new: set[str] = set()
        self._above: set[str] = set()
        self.left_out = 0

    def apply(self, archive: tarfile.TarFile) -> None:
        """Put a layer over what is there."""
        self._new, self._above = set(), set()
        for item in archive:
            self._count(item)
            parts = _parts(item.name)
            if not parts:
                continue  # the tree itself
            name = parts[-1]
            folder = self._directory(parts[:-1])
            if name == OPAQUE:
                self._clear(folder)
            elif name.startswith(AUFS):
                continue
            elif name.startswith(WHITEOUT):
                hidden = name.removeprefix(WHITEOUT)
                if hidden in {"", ".", ".."}:
                    raise Unfit(f"'{item.name}' hides no name.")
                if not self._is_new(f"{folder}/{hidden}"):
                    self._remove(f"{folder}/{hidden}")
            else:
                self._put(archive, item, f"{folder}/{name}")

    def finish(self, files: list[str]) -> None:
        """Take away what a sandbox has itself, and make `files` in /etc, upon which others are put."""
        for name in OWN:
            self._remove(f"{self._root}/{name}")
        folder = f"{self._root}/etc"
        if not _is_directory(folder):
            self._remove(folder)
            os.mkdir(folder, 0o755)  # noqa: PTH102  (names as they come, thousands of them)
        for name in files:
            self._remove(f"{folder}/{name}")
            os.close(os.open(f"{folder}/{name}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
        if len(os.listdir(self._root)) > MAX_TOP:  # noqa: PTH208
            raise Unfit(f"It has more than {MAX_TOP} names at its top.")

    def _count(self, item: tarfile.TarInfo) -> None:
        self._entries -= 1
        self._bytes -= item.size if item.isreg() else 0
        if self._entries < 0:
            raise Unfit("It has too many files.")
        if self._bytes < 0:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))

    def _directory(self, parts: list[str]) -> str:
        """The true directory below the tree to which the parts lead, made if it isn't there. Links lead where
        they would if the tree were the root."""
        wanted = "/".join(parts)
        if wanted in self._links:
            return self._links[wanted]
        found: list[str] = []
        todo, hops = parts[::-1], 0
        while todo:
            part = todo.pop()
            if part in {"", "."}:
                continue
            if part == "..":
                found = found[:-1]
                continue
            here = "/".join([self._root, *found, part])
            kind = _kind(here)
            if kind == stat.S_IFLNK:
                hops += 1
                if hops > MAX_HOPS:
                    raise Unfit(f"Links at '{wanted}' lead in a circle.")
                target = os.readlink(here)  # noqa: PTH115
                found = [] if target.startswith("/") else found
                todo += target.split("/")[::-1]
                continue
            if kind is None:
                os.mkdir(here, 0o755)  # noqa: PTH102
            elif kind != stat.S_IFDIR:
                raise Unfit(f"'{wanted}' needs a directory where there is a file.")
            found.append(part)
            if len(found) > MAX_DEPTH:
                raise Unfit(f"Its directories are more than {MAX_DEPTH} deep.")
        self._links[wanted] = "/".join([self._root, *found])
        return self._links[wanted]

    def _put(self, archive: tarfile.TarFile, item: tarfile.TarInfo, path: str) -> None:
        if item.islnk():
            source = self._linked(item)
            if source != path:
                self._remove(path)
                os.link(source, path, follow_symlinks=False)
        elif item.isdir():
            if not _is_directory(path):
                self._remove(path)
                os.mkdir(path, 0o755)  # noqa: PTH102
            os.chmod(path, item.mode & 0o777 | 0o700)  # noqa: PTH101
        else:
            self._remove(path)
            if item.issym():
                os.symlink(item.linkname, path)  # noqa: PTH211
            elif item.isreg():
                self._write(archive, item, path)
            else:
                self.left_out += 1
                return
        self._new.add(path)
        above = os.path.dirname(path)  # noqa: PTH120
        while above not in self._above and len(above) > len(self._root):
            self._above.add(above)
            above = os.path.dirname(above)  # noqa: PTH120

    def _is_new(self, path: str) -> bool:
        """Whether it, or something below it, comes from the layer that is being put on."""
        return path in self._new or path in self._above

    def _write(self, archive: tarfile.TarFile, item: tarfile.TarInfo, path: str) -> None:
        content = archive.extractfile(item)
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW
        with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
            if content is not None:
                shutil.copyfileobj(content, file, CHUNK)
            os.fchmod(file.fileno(), item.mode & 0o777 | 0o400)
        # Python looks at it to see whether what it has compiled is still good.
        with suppress(OverflowError, ValueError):
            os.utime(path, (item.mtime, item.mtime))

    def _linked(self, item: tarfile.TarInfo) -> str:
        parts = _parts(item.linkname)
        source = f"{self._directory(parts[:-1])}/{parts[-1]}" if parts else self._root
        if _kind(source) in {None, stat.S_IFDIR}:
            raise Unfit(f"'{item.name}' is another name for '{item.linkname}', and there is no such file.")
        return source

    def _clear(self, folder: str) -> None:
        """Remove what lower layers have there."""
        for name in os.listdir(folder):  # noqa: PTH208
            path = f"{folder}/{name}"
            if not self._is_new(path):
                self._remove(path)
            elif _is_directory(path):
                self._clear(path)

    def _remove(self, path: str) -> None:
        kind = _kind(path)
        if kind is None:
            return
        # Whatever leads through a directory or a link may lead elsewhere now.
        if kind in {stat.S_IFDIR, stat.S_IFLNK}:
            self._links.clear()
        if kind == stat.S_IFDIR:
            shutil.rmtree(path)
        else:
            os.unlink(path)  # noqa: PTH108


def _kind(path: str) -> int | None:
    try:
        return stat.S_IFMT(os.lstat(path).st_mode)
    except FileNotFoundError:
        return None


def _is_directory(path: str) -> bool:
    return _kind(path) == stat.S_IFDIR


def _parts(name: str) -> list[str]:
    parts = [part for part in name.split("/") if part not in {"", "."}]
    if ".." in parts:
        raise Unfit(f"'{name}' leads out of the image.")
    return parts


@dataclass(frozen=True)
class Layer:
    """A file, the SHA-256 that it must have, and how large it is."""

    file: str
    digest: str


def unpack(root: Path, layers: list[Layer], most: tuple[int, int], files: list[str]) -> dict[str, Any]:
    """Make the tree `root` of the layers, the lowest first; what is to be told. `Unfit` for the image's
    faults, `OSError` for this machine's."""
    tree = Tree(root, most)
    for number, layer in enumerate(layers, start=1):
        with _fault(f"layer {number} of {len(layers)}"), open(layer.file, "rb") as packed:  # noqa: PTH123
            if hashlib.file_digest(packed, "sha256").hexdigest() != layer.digest:
                raise Unfit("It has another SHA-256 than the image's manifest says.")
            packed.seek(0)
            with _plain(packed) as plain, tarfile.open(fileobj=plain, mode="r|", bufsize=CHUNK) as archive:
                tree.apply(archive)
    tree.finish(files)
    return {"left_out": tree.left_out}


def extract(archive: Path, folder: Path, most: tuple[int, int]) -> None:
    """What an OCI archive has of documents and layers, into `folder`: `index.json`, and the others by their
    digests."""
    left, entries = most
    with _fault("the archive"), tarfile.open(archive, "r:") as opened:
        for item in opened:
            name = item.name.removeprefix("./")
            entries -= 1
            if entries < 0:
                raise Unfit("It has too many files.")
            digest = name.removeprefix("blobs/sha256/")
            wanted = name == "index.json" or (len(digest) == 64 and set(digest) <= set("0123456789abcdef"))
            if not wanted or not item.isreg():
                continue
            left -= item.size
            if left < 0:
                raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
            content = opened.extractfile(item)
            with (folder / digest).open("wb") as file:
                if content is not None:
                    shutil.copyfileobj(content, file, CHUNK)


@contextmanager
def _fault(where: str) -> Iterator[None]:
    """Say where it is, and whose fault."""
    try:
        yield
    except Unfit as error:
        raise Unfit(f"{where}: {error}") from None
    except OSError as error:
        if error.errno in _OURS:
            raise
        raise Unfit(f"{where}: {error.strerror or error}") from None
    except (tarfile.TarError, EOFError, ValueError, OverflowError, RecursionError, zlib.error) as error:
        raise Unfit(f"{where}: It is damaged ({error}).") from None
    except MemoryError:
        raise Unfit(f"{where}: It has a head that is too large.") from None


@contextmanager
def _plain(packed: IO[bytes]) -> Iterator[IO[bytes]]:
    """The layer's archive, whatever it is packed by."""
    begin = packed.read(4)
    packed.seek(0)
    if begin.startswith(GZIP):
        with gzip.GzipFile(fileobj=packed) as plain:
            yield io.BufferedReader(plain, CHUNK)
    elif begin == ZSTD:
        command = ["/usr/bin/zstd", "--decompress", "--stdout", "--quiet"]
        os.lseek(packed.fileno(), 0, os.SEEK_SET)  # what was read of it stands in a buffer here
        with subprocess.Popen(command, stdin=packed, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None  # noqa: S101  (for the type checker)
            with closing(process.stdout) as stream:
                yield stream
            process.kill()
    else:
        yield packed


def main(plan: dict[str, Any]) -> int:
    """Do what a plan asks for; an exit code."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    work = Path(plan["work"])
    try:
        most = (plan["bytes"], plan["entries"])
        if "archive" in plan:
            extract(Path(plan["archive"]), work, most)
            return 0
        layers = [Layer(**item) for item in plan["layers"]]
        report = unpack(Path(plan["root"]), layers, most, plan["files"])
        (work / REPORT).write_text(json.dumps(report), encoding="utf-8")
    except Unfit as error:
        print(f"error: {error}", file=sys.stderr)
        return UNFIT
    except OSError as error:
        print(f"error: {error.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
