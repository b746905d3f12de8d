"""Layers are put onto one another, and nothing of a hostile one lands anywhere else."""

from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from container_images import (
    Entry,
    device,
    directory,
    entry,
    hard_link,
    image,
    layer,
    pack,
    sha256,
    symlink,
)

from labfleet.worker import layers
from labfleet.worker.layers import Layer, Unfit, extract, unpack

MOST = (10_000_000, 1000)
Unpack = Callable[..., Path]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    return root


@pytest.fixture
def put(tmp_path: Path, root: Path) -> Unpack:
    """`put(layer, layer, …)` unpacks layers (lists of entries, or the packed bytes) into `root`."""

    def unpacked(*wanted: list[Entry] | bytes, most: tuple[int, int] = MOST) -> Path:
        files = []
        for number, one in enumerate(wanted):
            content = one if isinstance(one, bytes) else layer(*one)
            path = tmp_path / f"layer{number}"
            path.write_bytes(content)
            files.append(Layer(str(path), sha256(content)))
        unpack(root, files, most, ["passwd"])
        return root

    return unpacked


@pytest.fixture(autouse=True)
def outside(tmp_path: Path) -> Iterator[Path]:
    """What a hostile layer wants to reach: it is as it was."""
    file = tmp_path / "outside"
    file.write_text("outside")
    before = sorted(tmp_path.iterdir())
    yield file
    assert file.read_text() == "outside"
    assert stat.S_IMODE(file.stat().st_mode) & 0o7000 == 0
    new = {path.name for path in set(tmp_path.iterdir()) - set(before)}
    assert {name for name in new if not name.startswith("layer")} <= {"root", "work"}


def names(root: Path) -> list[str]:
    found = (path.relative_to(root) for path in root.rglob("*"))
    return sorted(str(path) for path in found if not str(path).startswith("etc"))


def test_layers_lie_on_one_another(put: Unpack) -> None:
    root = put(
        [directory("opt"), entry("opt/a", "lower"), entry("opt/b", "stays", 0o755)],
        [entry("opt/a", "upper"), entry("opt/new/deep", "made", 0o600)],
    )
    assert names(root) == ["opt", "opt/a", "opt/b", "opt/new", "opt/new/deep"]
    assert (root / "opt/a").read_text() == "upper"
    assert stat.S_IMODE((root / "opt/b").stat().st_mode) == 0o755
    assert (root / "opt/b").stat().st_mtime == 1_600_000_000


@pytest.mark.parametrize("packed", ["", "gzip", "zstd"])
def test_however_it_is_packed(put: Unpack, packed: str) -> None:
    root = put(pack(layer(entry("a", "x" * 100_000), entry("b", "y")), packed))
    assert (root / "a").read_text() == "x" * 100_000
    assert (root / "b").read_text() == "y"


def test_whiteouts_hide_what_is_below(put: Unpack) -> None:
    lower = [entry(f"opt/{name}", name) for name in ("gone", "kept", "deep/gone")]
    lower += [entry("var/old/a", "a"), entry("var/old/both/x", "x")]
    upper = [
        entry("opt/.wh.gone"),
        entry("opt/.wh.deep"),
        entry("opt/.wh.never"),
        entry("var/old/new", "of this layer"),
        entry("var/old/both/y", "of this layer"),
        entry("var/old/.wh..wh..opq"),
        entry("opt/.wh..wh.plnk", "of a file system long ago"),
    ]
    root = put(lower, upper)
    assert names(root) == [
        "opt",
        "opt/kept",
        "var",
        "var/old",
        "var/old/both",
        "var/old/both/y",
        "var/old/new",
    ]


def test_what_a_layer_brings_it_does_not_hide(put: Unpack) -> None:
    root = put([entry("a", "lower")], [entry("a", "upper"), entry(".wh.a")])
    assert (root / "a").read_text() == "upper"


def test_kinds_replace_each_other(put: Unpack) -> None:
    lower = [directory("a"), entry("a/x"), entry("b", "file"), symlink("c", "b"), symlink("d", "a")]
    upper = [entry("a", "file now"), directory("b"), entry("b/x"), entry("c", "no link"), directory("d")]
    root = put(lower, upper)
    assert names(root) == ["a", "b", "b/x", "c", "d"]
    assert not (root / "c").is_symlink()
    assert not (root / "d").is_symlink()


def test_links_lead_where_they_would_in_the_image(put: Unpack) -> None:
    lower = [directory("usr/lib"), symlink("lib", "usr/lib"), symlink("usr/abs", "/usr/lib")]
    upper = [entry("lib/a", "by a link"), entry("usr/abs/b", "by an absolute one")]
    upper += [symlink("up", "../../../usr"), entry("up/lib/c", "it can't go above the root")]
    root = put(lower, upper)
    assert sorted(path.name for path in (root / "usr/lib").iterdir()) == ["a", "b", "c"]


def test_a_link_to_the_outside_is_kept_as_text_and_never_followed(put: Unpack, outside: Path) -> None:
    root = put(
        [symlink("evil", str(outside.parent)), symlink("file", str(outside))],
        [entry("evil/outside", "written"), entry("file", "written")],
    )
    assert os.readlink(root / "evil") == str(outside.parent)  # noqa: PTH115
    assert (root / "file").read_text() == "written"


def test_a_link_that_is_replaced_is_not_remembered(put: Unpack) -> None:
    lower = [symlink("a", "one"), entry("a/x", "1")]
    root = put(lower, [symlink("a", "two"), entry("a/x", "2")])
    assert (root / "one/x").read_text() == "1"
    assert (root / "two/x").read_text() == "2"


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([entry("../outside", "x")], "leads out of the image"),
        ([entry("a/../../outside", "x")], "leads out of the image"),
        ([entry("/../outside", "x")], "leads out of the image"),
        ([hard_link("a", "../outside")], "leads out of the image"),
        ([hard_link("a", "outside")], "there is no such file"),
        ([hard_link("a", "{outside}")], "there is no such file"),
        ([symlink("up", "{above}"), hard_link("a", "up/outside")], "there is no such file"),
        ([directory("d"), hard_link("a", "d")], "there is no such file"),
        ([hard_link("a", "/")], "there is no such file"),
        ([entry(".wh...", "")], "hides no name"),
        ([entry("a/.wh..")], "hides no name"),
        ([entry(".wh.")], "hides no name"),
        ([symlink("a", "b"), symlink("b", "a"), entry("a/x")], "lead in a circle"),
        ([entry("a"), entry("a/b")], "needs a directory where there is a file"),
        ([entry("x/" * 300 + "x")], "deep"),
        ([entry("x" * 300)], "File name too long"),
        ([entry(f"f{number}") for number in range(1001)], "too many files"),
        ([entry(f"f{number}") for number in range(250)], "names at its top"),
    ],
)
def test_what_is_hostile_is_refused(put: Unpack, outside: Path, entries: list[Entry], words: str) -> None:
    for info, _ in entries:
        info.linkname = info.linkname.format(outside=outside, above=outside.parent)
    with pytest.raises(Unfit, match=words):
        put(entries)


@pytest.mark.parametrize("hidden", [".wh..wh..opq", ".wh.outside"])
def test_a_whiteout_reaches_nothing_above(put: Unpack, outside: Path, hidden: str) -> None:
    above = "../" * 40 + str(outside.parent)
    put([symlink("up", above), symlink("abs", str(outside.parent))], [entry(f"up/{hidden}")])
    put([entry(f"abs/{hidden}")])
    assert outside.exists()


def test_no_device_no_pipe_no_privilege(put: Unpack) -> None:
    pipe, block = entry("p", type=tarfile.FIFOTYPE), entry("b", type=tarfile.BLKTYPE)
    root = put(
        [entry("null", "was here")],
        [
            device("null"),
            pipe,
            block,
            entry("su", "x", 0o6755),
            directory("dir", 0o7777),
            entry("secret", "x", 0),
        ],
    )
    assert names(root) == ["dir", "secret", "su"]
    assert stat.S_IMODE((root / "su").stat().st_mode) == 0o755
    assert stat.S_IMODE((root / "dir").stat().st_mode) == 0o777
    assert stat.S_IMODE((root / "secret").stat().st_mode) == 0o400


def test_the_devices_are_counted(tmp_path: Path, root: Path) -> None:
    content = layer(device("null"), device("zero"), entry("a"))
    (tmp_path / "layer").write_bytes(content)
    told = unpack(root, [Layer(str(tmp_path / "layer"), sha256(content))], MOST, [])
    assert told == {"left_out": 2}


def test_hard_links_within_it(put: Unpack) -> None:
    root = put([entry("a", "one")], [hard_link("b", "a"), hard_link("a", "a"), hard_link("c", "./b")])
    assert {path.stat().st_ino for path in root.glob("[abc]")} == {(root / "a").stat().st_ino}


def test_the_sandbox_has_some_names_itself(put: Unpack) -> None:
    own = [entry(f"{name}/x") for name in layers.OWN]
    root = put([*own, symlink("etc", "/tmp"), entry("a")])
    assert sorted(path.name for path in root.iterdir()) == ["a", "etc"]
    assert not (root / "etc").is_symlink()
    assert (root / "etc/passwd").read_bytes() == b""


def test_its_files_of_accounts_are_replaced_not_followed(put: Unpack, outside: Path) -> None:
    root = put([symlink("etc/passwd", str(outside)), entry("etc/group", "kept")])
    assert not (root / "etc/passwd").is_symlink()
    assert (root / "etc/passwd").read_bytes() == b""
    assert (root / "etc/group").read_text() == "kept"


def test_too_large(put: Unpack) -> None:
    with pytest.raises(OSError, match="File too large"):
        put([entry("a", b"x" * 600), entry("b", b"x" * 600)], most=(1000, 10))


def test_a_bomb_is_not_unpacked_to_see_how_large_it_is(put: Unpack, root: Path) -> None:
    info, _ = entry("bomb")
    info.size = 10**13
    bomb = gzip.compress(info.tobuf() + bytes(10_000_000))
    with pytest.raises(OSError, match="File too large"):
        put(bomb)
    assert list(root.iterdir()) == []


@pytest.mark.parametrize(
    "content",
    [
        b"no archive at all" * 100,
        gzip.compress(layer(entry("a", b"x" * 100_000)))[:-50_000:],
        gzip.compress(layer(entry("a", os.urandom(100_000))))[:50_000],
        b"\x28\xb5\x2f\xfd no zstd at all",
        layer(entry("a", b"x" * 100_000))[:50_000],
    ],
)
def test_damaged(put: Unpack, content: bytes) -> None:
    with pytest.raises(Unfit, match=r"layer 1 of 1: It is damaged"):
        put(content)


def test_another_digest(tmp_path: Path, root: Path) -> None:
    (tmp_path / "layer").write_bytes(layer(entry("a")))
    with pytest.raises(Unfit, match="another SHA-256"):
        unpack(root, [Layer(str(tmp_path / "layer"), "0" * 64)], MOST, [])
    assert list(root.iterdir()) == []


def test_what_an_archive_has(tmp_path: Path) -> None:
    one = image(layer(entry("a")))
    work = tmp_path / "work"
    work.mkdir()
    file = tmp_path / "layer.tar"
    file.write_bytes(one.archive())
    extract(file, work, MOST)
    assert {path.name for path in work.iterdir()} == {"index.json", one.digest, *one.blobs}


def test_a_hostile_archive(tmp_path: Path, outside: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    digest = "0" * 64
    file = tmp_path / "layer.tar"
    bad = [
        entry("../outside", "written"),
        entry(str(outside), "written"),
        symlink("index.json", str(outside)),
        symlink(f"blobs/sha256/{digest}", str(outside)),
        entry("blobs/sha256/../../outside", "written"),
        device(f"blobs/sha256/{digest}"),
    ]
    file.write_bytes(layer(*bad))
    extract(file, work, MOST)
    assert list(work.iterdir()) == []
    file.write_bytes(layer(entry(f"blobs/sha256/{digest}", b"x" * 2000)))
    with pytest.raises(OSError, match="File too large"):
        extract(file, work, (1000, 10))
    file.write_bytes(b"nothing" * 1000)
    with pytest.raises(Unfit, match="the archive: It is damaged"):
        extract(file, work, MOST)


def test_sparse_files_count_as_they_are_read(put: Unpack, tmp_path: Path) -> None:
    path = tmp_path / "layer-sparse"
    with path.open("wb") as file:
        file.truncate(50_000_000)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(path, "sparse")
    with pytest.raises(OSError, match="File too large"):
        put(gzip.compress(buffer.getvalue()))
