"""All results of a job as one ZIP file, made while it is sent: nothing of it is kept."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO

from labfleet.datasets.store import BlobStore
from labfleet.jobs.service import Result

CHUNK = 256 * 1024
# Other than the moment of the download: the same job gives the same file.
LONG_AGO = (1980, 1, 1, 0, 0, 0)


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


def zipped(store: BlobStore, results: Sequence[Result], documents: Mapping[str, Any]) -> Iterator[bytes]:
    """The pieces of a ZIP with the results (of several tasks in a folder for each) and JSON documents."""
    outlet = _Outlet()
    folders = len({result.task for result in results}) > 1
    with zipfile.ZipFile(outlet, "w", zipfile.ZIP_DEFLATED, allowZip64=True) as archive:
        for name, document in documents.items():
            archive.writestr(zipfile.ZipInfo(name, LONG_AGO), json.dumps(document, indent=1, default=str))
        for result in results:
            name = f"{result.task}/{result.artifact.name}" if folders else result.artifact.name
            info = zipfile.ZipInfo(name, LONG_AGO)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.file_size = result.artifact.size
            with store.open(result.artifact.sha256) as file, archive.open(info, "w") as entry:
                for piece in _pieces(file):
                    entry.write(piece)
                    yield outlet.take()
    yield outlet.take()


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    while piece := file.read(CHUNK):
        yield piece
