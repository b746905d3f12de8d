"""Archives of protocols: what is unpacked, and what is refused."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from labfleet.worker import fetch
from labfleet.worker.fetch import BadArchive, extract


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, mode
    return info


def unpack(directory: Path, *members: tarfile.TarInfo, content: bytes = b"x") -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for info in members:
            info.size = len(content) if info.isreg() else 0
            tar.addfile(info, io.BytesIO(content))
    buffer.seek(0)
    with tarfile.open(fileobj=buffer) as tar:
        extract(tar, directory)


def test_files_directories_and_inner_links_are_unpacked(tmp_path: Path) -> None:
    unpack(
        tmp_path,
        member("lib", tarfile.DIRTYPE),
        member("lib/a.R"),
        member("main.R", mode=0o755),
        member("lib/b.R", tarfile.SYMTYPE, "a.R"),
        member("lib/up.R", tarfile.SYMTYPE, "../main.R"),
        member("deep/er/c.R"),
    )

    assert (tmp_path / "lib/b.R").read_bytes() == b"x"
    assert (tmp_path / "lib/up.R").resolve() == (tmp_path / "main.R").resolve()
    assert (tmp_path / "deep/er/c.R").exists()
    assert (tmp_path / "main.R").stat().st_mode & 0o7777 == 0o755
    assert (tmp_path / "lib/a.R").stat().st_mode & 0o7777 == 0o644


@pytest.mark.parametrize(
    "bad",
    [
        member("/etc/passwd"),
        member("../out"),
        member("a/../../out"),
        member("device", tarfile.CHRTYPE),
        member("pipe", tarfile.FIFOTYPE),
        member("hard", tarfile.LNKTYPE, "/etc/passwd"),
        member("link", tarfile.SYMTYPE, "/etc/passwd"),
        member("link", tarfile.SYMTYPE, "../out"),
        member("a/link", tarfile.SYMTYPE, "../../out"),
    ],
    ids=lambda info: f"{info.name} {info.linkname}",
)
def test_what_leads_out_or_is_no_file_is_refused(tmp_path: Path, bad: tarfile.TarInfo) -> None:
    with pytest.raises(BadArchive):
        unpack(tmp_path / "protocol", bad)

    assert not (tmp_path / "out").exists()


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    with pytest.raises(BadArchive, match="behind a link"):
        unpack(tmp_path, member("d", tarfile.SYMTYPE, "."), member("d/x"))


def test_setuid_does_not_survive(tmp_path: Path) -> None:
    unpack(tmp_path, member("tool", mode=0o4755))

    assert (tmp_path / "tool").stat().st_mode & 0o7777 == 0o755


def test_size_and_number_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "MAX_BYTES", 10)
    with pytest.raises(BadArchive, match="bytes"):
        unpack(tmp_path / "a", member("big"), content=b"x" * 11)
    monkeypatch.setattr(fetch, "MAX_ENTRIES", 1)
    with pytest.raises(BadArchive, match="entries"):
        unpack(tmp_path / "b", member("a"), member("b"))
