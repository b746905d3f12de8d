"""What loader and fetcher say to each other over a unix socket: one request, then events and bytes.

The request is one line of JSON. Each answer is one line of JSON as well; after `{"bytes": N}` come so many
bytes of the file. `{"end": …}` or `{"failed": …}` is the last one. `{}` says that it is still at work.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

from labfleet.fetching.handlers.base import FetchFailed

LINE_BYTES = 1024 * 1024
PIECE = 256 * 1024
BEAT_SECONDS = 1.0
Json = dict[str, Any]


class Writer:
    """The fetcher's side. Several threads may use it."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._lock = threading.Lock()

    def say(self, event: Mapping[str, Any]) -> None:
        """Write one event."""
        self._write(json.dumps(event).encode() + b"\n")

    def send(self, file: BinaryIO) -> None:
        """Write a file, piece by piece."""
        while piece := file.read(PIECE):
            self._write(json.dumps({"bytes": len(piece)}).encode() + b"\n" + piece)

    def _write(self, data: bytes) -> None:
        with self._lock:
            self._out.write(data)
            self._out.flush()


class Answer:
    """The loader's side: the file that comes, to be read like any other. `tell` gets the other events.

    Reading raises `FetchFailed` when the fetcher says so, or when it breaks off. `end` is what it said last.
    """

    def __init__(self, stream: BinaryIO, tell: Callable[[Json], None]) -> None:
        self._stream = stream
        self._tell = tell
        self._left = 0
        self.end: Json | None = None

    def begin(self) -> None:
        """Wait until the file begins (or ends, being empty)."""
        while self._left == 0 and self.end is None:
            self._event()

    def read(self, size: int, /) -> bytes:
        """At most so many bytes, none at the end."""
        self.begin()
        if self.end is not None:
            return b""
        piece = self._stream.read(min(size, self._left))
        if not piece:
            raise broken_off()
        self._left -= len(piece)
        return piece

    def _event(self) -> None:
        try:
            event = json.loads(self._stream.readline(LINE_BYTES))
        except (ValueError, OSError):
            raise broken_off() from None
        if "failed" in event:
            raise FetchFailed(str(event["failed"]), passing=bool(event.get("passing")))
        if "bytes" in event:
            self._left = int(event["bytes"])
        elif "end" in event:
            self.end = dict(event["end"])
        else:
            self._tell(event)


def broken_off() -> FetchFailed:
    """The failure of a fetcher that ends without a word."""
    return FetchFailed("The process that fetched it ended before it was done.", passing=True)
