"""What a sandbox prints: into one log of bounded size, and the last words of its standard error."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

LAST_WORDS_BYTES = 4096


class Capture:
    """Writes the log file. More than `limit` bytes are dropped, and one line says so."""

    def __init__(self, path: Path, limit: int) -> None:
        self._file = path.open("wb", buffering=0)
        self._left = limit
        self._limit = limit
        self.truncated = False
        self._tail = b""

    def write(self, piece: bytes, *, is_error: bool) -> None:
        """Take a piece of standard output or standard error."""
        if is_error:
            self._tail = (self._tail + piece)[-LAST_WORDS_BYTES:]
        if self.truncated:
            return
        self._file.write(piece[: self._left])
        self._left -= len(piece)
        if self._left < 0:
            self.truncated = True
            self.note(f"the log ends here: it is limited to {self._limit} bytes")

    def note(self, text: str) -> None:
        """A line of ours, also into a full log."""
        self._file.write(f"\n[labfleet] {text}\n".encode())

    @property
    def last_words(self) -> str:
        """The last line of standard error that isn't blank."""
        lines = [line.strip() for line in self._tail.decode(errors="replace").splitlines()]
        return next((line for line in reversed(lines) if line), "")

    def __enter__(self) -> Capture:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
