"""How a text is encoded: UTF-8, UTF-16 with its mark, Windows-1252, or two of them mixed.

A file is read once, from its beginning to its end, in pieces of one size.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

PIECE = 1024 * 1024
LONGEST_LINE = 64 * PIECE
Encoding = Literal["utf-8", "utf-16", "windows-1252", "mixed"]


class NoText(ValueError):
    """The file is no text."""


@dataclass(frozen=True)
class Place:
    """A byte of a file: the number of its line, from 1, and its offset, from 0."""

    line: int
    byte: int


@dataclass(frozen=True)
class Found:
    """The encoding. Of a mixed file: the first line that is UTF-8, and the first byte that is not."""

    encoding: Encoding
    first_good: Place | None = None
    first_bad: Place | None = None


def recognise(path: Path) -> Found:
    """The encoding of a text; `NoText` names the byte that no text has."""
    with path.open("rb") as file:
        start = file.read(2)
        if start in {codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE}:
            return Found("utf-16")
        file.seek(0)
        good, bad = _places(file)
    if bad is None:
        return Found("utf-8")
    return Found("mixed" if good else "windows-1252", good, bad)


def as_utf8(source: Path, target: Path, encoding: Encoding) -> None:
    """Write the text as UTF-8. Of a mixed one, each line is read as what it can be."""
    with source.open("rb") as file, target.open("wb") as out:
        if encoding == "utf-16":
            decoder = codecs.getincrementaldecoder("utf-16")("replace")
            while piece := file.read(PIECE):
                out.write(decoder.decode(piece).encode("utf-8"))
            return
        for _, _, part in _lines(file):
            out.write(part if part.isascii() or _is_utf8(part) else _western(part).encode("utf-8"))


def _places(file: BinaryIO) -> tuple[Place | None, Place | None]:
    """The first line with characters beyond ASCII that is UTF-8, and the first byte that is not."""
    good = bad = None
    for line, offset, part in _lines(file):
        if (zero := part.find(b"\0")) >= 0:
            number = line + part[:zero].count(b"\n")
            raise NoText(f"Line {number:,} (byte {offset + zero:,}) has a zero byte, which no text has.")
        if part.isascii() or (good and bad):
            continue
        for number, each in enumerate(part.splitlines(keepends=True), start=line):
            fault = None if each.isascii() else _fault(each)
            if fault is not None:
                bad = bad or Place(number, offset + fault)
            elif not each.isascii():
                good = good or Place(number, offset)
            offset += len(each)  # noqa: PLW2901 - where the next line begins
    return good, bad


def _lines(file: BinaryIO) -> Iterator[tuple[int, int, bytes]]:
    """Whole lines, many at once: the number of the first one, its offset, and the bytes."""
    line, offset, rest = 1, 0, b""
    while piece := file.read(PIECE):
        text = rest + piece
        end = text.rfind(b"\n") + 1
        if not end and len(text) < LONGEST_LINE:
            rest = text
            continue
        end = end or len(text)
        yield line, offset, text[:end]
        line, offset, rest = line + text.count(b"\n", 0, end), offset + end, text[end:]
    if rest:
        yield line, offset, rest


def _fault(part: bytes) -> int | None:
    try:
        part.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start
    return None


def _is_utf8(part: bytes) -> bool:
    return _fault(part) is None


def _western(part: bytes) -> str:
    """Lines of Windows-1252 or UTF-8, each as what it is; five bytes that the former lacks are Latin-1."""
    lines = part.splitlines(keepends=True)
    return "".join(_line(line) for line in lines)


def _line(line: bytes) -> str:
    for encoding in ("utf-8", "cp1252"):
        try:
            return line.decode(encoding)
        except UnicodeDecodeError:
            continue
    return line.decode("latin-1")
