"""The store: a blob exists whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import resource
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import pytest

from labfleet.datasets import store as module
from labfleet.datasets.store import Blob, BlobStore, ChecksumMismatch, CutOff, StoreUnavailable
from labfleet.errors import NotFound, TooLarge

HELLO = hashlib.sha256(b"hello").hexdigest()


class Broken:
    """A connection that ends in the middle."""

    def __init__(self) -> None:
        self.pieces = [b"half"]

    def read(self, size: int, /) -> bytes:
        if self.pieces:
            return self.pieces.pop()
        raise OSError("connection reset")


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    made = BlobStore(tmp_path / "store")
    made.prepare()
    return made


def left_over(store: BlobStore) -> list[Path]:
    return [path for path in store.root.rglob("*") if path.is_file()]


def test_a_file_is_kept_by_its_content(store: BlobStore) -> None:
    assert store.put(BytesIO(b"hello"), limit=5, length=5, sha256=HELLO.upper()) == Blob(HELLO, 5)
    with store.open(HELLO) as file:
        assert file.read() == b"hello"
    assert store.relative(HELLO) == f"blobs/{HELLO[:2]}/{HELLO[2:]}"
    assert stat.S_IMODE(store.path(HELLO).stat().st_mode) == 0o640
    assert list(store.tmp.iterdir()) == []


def test_the_same_content_is_kept_once(store: BlobStore) -> None:
    first = store.put(BytesIO(b"hello"), limit=5)
    assert store.put(BytesIO(b"hello"), limit=5) == first
    assert len(left_over(store)) == 1


def test_an_empty_file_is_a_file(store: BlobStore) -> None:
    assert store.put(BytesIO(b""), limit=5, length=0).size == 0


@pytest.mark.parametrize(
    ("source", "arguments", "error"),
    [
        (BytesIO(b"hello!"), {"limit": 5}, TooLarge),
        (BytesIO(b""), {"limit": 5, "length": 6}, TooLarge),
        (BytesIO(b"hell"), {"limit": 9, "length": 5}, CutOff),
        (Broken(), {"limit": 9}, CutOff),
        (BytesIO(b"hello"), {"limit": 9, "sha256": "0" * 64}, ChecksumMismatch),
    ],
)
def test_what_is_refused_leaves_nothing(
    store: BlobStore, source: BytesIO, arguments: dict[str, int], error: type[Exception]
) -> None:
    with pytest.raises(error):
        store.put(source, **arguments)
    assert left_over(store) == []


@contextmanager
def no_room() -> Iterator[None]:
    """The system lets this process write nothing to any file: not even the tests' own report."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [1, 5_000_000])
def test_what_finds_no_room_is_told_and_leaves_nothing(store: BlobStore, size: int) -> None:
    with no_room():
        with pytest.raises(StoreUnavailable):
            store.put(BytesIO(b"x" * size), limit=size)
        writable = store.writable()
    assert not writable
    assert left_over(store) == []


def test_a_full_disk_is_told_and_leaves_nothing(store: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module.os, "fsync", full)
    with pytest.raises(StoreUnavailable, match="No space left") as caught:
        store.put(BytesIO(b"hello"), limit=5)
    assert caught.value.status == 503
    assert left_over(store) == []


@pytest.mark.parametrize("sha256", ["", "../../etc/passwd", HELLO.upper(), HELLO + "0", HELLO[:-1] + "\n"])
def test_only_a_sha256_has_a_path(store: BlobStore, sha256: str) -> None:
    with pytest.raises(ValueError, match="SHA-256"):
        store.path(sha256)


def test_a_lost_blob_is_told(store: BlobStore) -> None:
    with pytest.raises(NotFound, match="no longer in the store"):
        store.open(HELLO)


def test_many_uploads_of_one_content_at_once(store: BlobStore) -> None:
    content = b"x" * 3_000_000
    with ThreadPoolExecutor(8) as pool:
        blobs = set(pool.map(lambda _: store.put(BytesIO(content), limit=len(content)), range(16)))
    assert len(blobs) == 1
    assert len(left_over(store)) == 1


def test_what_a_killed_process_left_is_swept(store: BlobStore) -> None:
    old, new = store.tmp / "in-old", store.tmp / "in-new"
    old.touch()
    new.touch()
    os.utime(old, (0, 0))
    assert store.sweep() == 1
    assert [path.name for path in store.tmp.iterdir()] == ["in-new"]


def test_it_tells_whether_it_can_be_written_to(store: BlobStore) -> None:
    assert store.writable()
    store.tmp.rmdir()
    assert not store.writable()
