from __future__ import annotations

import gzip
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labfleet.protocols.archive import MIB, ArchiveError, Limits, extract

MakeTar = Callable[..., io.BytesIO]


def info(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.mode = kind, link, mode
    return member


def test_files_modes_and_links(make_tar: MakeTar, tmp_path: Path) -> None:
    tar = make_tar(
        ("./protocol.yml", b"x"),
        (info("run.sh", mode=0o777), b"#!/bin/sh\n"),
        (info("lib", tarfile.DIRTYPE), b""),
        (info("lib/link", tarfile.SYMTYPE, "../protocol.yml"), b""),
    )
    extract(tar, tmp_path)
    assert (tmp_path / "lib/link").read_bytes() == b"x"
    assert (tmp_path / "run.sh").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "protocol.yml").stat().st_mode & 0o777 == 0o644


def test_gzip(make_tar: MakeTar, tmp_path: Path) -> None:
    extract(make_tar(("a/b", b"x" * 100_000), mode="w:gz"), tmp_path)
    assert (tmp_path / "a/b").stat().st_size == 100_000


@pytest.mark.parametrize(
    ("name", "kind", "link"),
    [
        ("../a", tarfile.REGTYPE, ""),
        ("/a", tarfile.REGTYPE, ""),
        ("a/../../b", tarfile.REGTYPE, ""),
        ("a\nb", tarfile.REGTYPE, ""),
        ("a\\b", tarfile.REGTYPE, ""),
        ("x" * 201, tarfile.REGTYPE, ""),
        ("dev", tarfile.CHRTYPE, ""),
        ("dev", tarfile.BLKTYPE, ""),
        ("fifo", tarfile.FIFOTYPE, ""),
        ("hard", tarfile.LNKTYPE, "other"),
        ("link", tarfile.SYMTYPE, "/etc/passwd"),
        ("link", tarfile.SYMTYPE, "../x"),
        ("a/link", tarfile.SYMTYPE, "../../x"),
        ("a/link", tarfile.SYMTYPE, "b/../../../x"),
        ("a/link", tarfile.SYMTYPE, "b/.."),
    ],
)
def test_what_leads_out_is_refused(
    make_tar: MakeTar, tmp_path: Path, name: str, kind: bytes, link: str
) -> None:
    with pytest.raises(ArchiveError):
        extract(make_tar((info(name, kind, link), b"")), tmp_path)


def test_nothing_is_written_through_a_link(make_tar: MakeTar, tmp_path: Path) -> None:
    inside = tmp_path / "in"
    inside.mkdir()
    tar = make_tar((info("d", tarfile.SYMTYPE, "."), b""), ("d/x", b"x"))
    with pytest.raises(ArchiveError, match="behind a link"):
        extract(tar, inside)


@pytest.mark.parametrize("second", [("a", b"y"), ("a/b", b"y")])
def test_a_name_is_there_once(make_tar: MakeTar, tmp_path: Path, second: tuple[str, bytes]) -> None:
    with pytest.raises(ArchiveError, match="twice"):
        extract(make_tar(("a", b"x"), second), tmp_path)


def test_a_link_over_a_file(make_tar: MakeTar, tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="twice"):
        extract(make_tar(("a", b"x"), (info("a", tarfile.SYMTYPE, "b"), b"")), tmp_path)


def test_limits(make_tar: MakeTar, tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="entries"):
        extract(make_tar(*((f"f{i}", b"") for i in range(4))), tmp_path, Limits(entries=3))
    with pytest.raises(ArchiveError, match="too large"):
        extract(make_tar(("big", b"x" * 11)), tmp_path, Limits(file_bytes=10))
    with pytest.raises(ArchiveError, match="too large"):
        extract(make_tar(("one", b"x" * 9), ("two", b"x" * 9)), tmp_path, Limits(total_bytes=10))


def test_a_bomb_stops_early(make_tar: MakeTar, tmp_path: Path) -> None:
    bomb = make_tar(*((f"f{i}", b"\0" * MIB) for i in range(20)), mode="w:gz")
    with pytest.raises(ArchiveError, match="far more"):
        extract(bomb, tmp_path)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 5 * MIB


def test_a_huge_header_stops_early(tmp_path: Path) -> None:
    """A pax header may claim gigabytes; it is read by tarfile itself."""
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, 3 * 1024**3

    class Endless(io.RawIOBase):
        head = header.tobuf()

        def read(self, size: int = -1) -> bytes:
            out, self.head = self.head[:size], self.head[size:]
            return out or b"\0" * size

    with pytest.raises(ArchiveError, match="far more"):
        extract(Endless(), tmp_path, Limits(total_bytes=MIB, entries=10))  # type: ignore[arg-type]


@pytest.mark.parametrize("content", [b"", b"x", b"no tar at all" * 100, b"\x1f\x8b", b"\x1f\x8bxxxxxxxxxxxx"])
def test_no_archive(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ArchiveError, match="damaged"):
        extract(io.BytesIO(content), tmp_path)


def test_cut_off(make_tar: MakeTar, tmp_path: Path) -> None:
    whole = make_tar(("a", os.urandom(50_000)), mode="w:gz").getvalue()
    with pytest.raises(ArchiveError, match="damaged"):
        extract(io.BytesIO(whole[: len(whole) // 2]), tmp_path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(data=st.binary(max_size=600), packed=st.booleans())
def test_any_bytes_are_refused_cleanly(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, packed: bool
) -> None:
    try:
        extract(io.BytesIO(gzip.compress(data) if packed else data), tmp_path_factory.mktemp("x"))
    except ArchiveError as error:
        assert error.hint
