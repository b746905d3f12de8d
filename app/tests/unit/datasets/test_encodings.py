from __future__ import annotations

from pathlib import Path

import pytest

from labfleet.datasets import encodings
from labfleet.datasets.encodings import Found, NoText, Place, as_utf8, recognise

MUELLER = "name\nMüller\n"


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces that end in the middle of lines and characters."""
    monkeypatch.setattr(encodings, "PIECE", 3)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", Found("utf-8")),
        (b"a,b\n1,2\n", Found("utf-8")),
        (MUELLER.encode(), Found("utf-8", Place(2, 5))),
        (MUELLER.encode("utf-16"), Found("utf-16")),
        (MUELLER.encode("cp1252"), Found("windows-1252", None, Place(2, 6))),
        (MUELLER.encode() + b"M\xfcller", Found("mixed", Place(2, 5), Place(3, 14))),
        (b"x\r\nM\xfcller\r\n" + "é\n".encode(), Found("mixed", Place(3, 11), Place(2, 4))),
    ],
)
def test_what_is_recognised(tmp_path: Path, content: bytes, found: Found) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    told = recognise(path)
    assert told.encoding == found.encoding
    if told.encoding != "utf-8":
        assert told == found


def test_a_zero_byte_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"a,b\n1,\x00\n")
    with pytest.raises(NoText, match=r"Line 2 \(byte 6\)"):
        recognise(tmp_path / "file")


@pytest.mark.parametrize("encoding", ["utf-16", "cp1252"])
def test_another_encoding_becomes_utf8(tmp_path: Path, encoding: str) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(MUELLER.encode(encoding))
    as_utf8(source, target, recognise(source).encoding)
    assert target.read_text(encoding="utf-8") == MUELLER


def test_of_two_encodings_each_line_is_read_as_what_it_is(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes("Ü1\n".encode() + b"\xdc2\n\x811\n")
    as_utf8(source, target, "mixed")
    assert target.read_text(encoding="utf-8") == "Ü1\nÜ2\n\x811\n"
