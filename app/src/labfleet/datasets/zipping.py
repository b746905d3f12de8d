"""A ZIP file, made while it is sent: nothing of it is kept."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Any

CHUNK = 256 * 1024
# Other than the moment of the download: the same files give the same ZIP.
LONG_AGO = (1980, 1, 1, 0, 0, 0)
PLAIN = 0o100644


@dataclass(frozen=True)
class Member:
    """A file of the ZIP: its name, how to open it, how large it is, and its mode as `stat` has it."""

    name: str
    open: Callable[[], IO[bytes]]
    size: int
    mode: int = PLAIN


def member_of(name: str, content: bytes) -> Member:
    """A file whose content is at hand."""
    return Member(name, lambda: io.BytesIO(content), len(content))


class _Outlet(io.RawIOBase):
    """Where the ZIP is written to; `take` gives what has come since."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        """What was written since the last call."""
        taken = b"".join(self._pieces)
        self._pieces.clear()
        return taken


def zipped(members: Iterable[Member]) -> Iterator[bytes]:
    """The pieces of a ZIP with these files."""
    outlet = _Outlet()
    with zipfile.ZipFile(outlet, "w", zipfile.ZIP_DEFLATED, allowZip64=True) as archive:
        for member in members:
            info = zipfile.ZipInfo(member.name, LONG_AGO)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.file_size = member.size
            info.external_attr = member.mode << 16
            with member.open() as file, archive.open(info, "w") as entry:
                while piece := file.read(CHUNK):
                    entry.write(piece)
                    yield outlet.take()
    yield outlet.take()
