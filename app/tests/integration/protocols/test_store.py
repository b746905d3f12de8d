"""The store on real git repositories."""

from __future__ import annotations

import fcntl
import io
import os
import subprocess
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from labfleet.errors import UnknownProtocol, UnknownVersion
from labfleet.protocols.check import check_archive
from labfleet.protocols.problems import InvalidProtocol
from labfleet.protocols.store import ProtocolStore, StoreError, VersionChanged


def edit(tree: Path, version: str, source: str) -> None:
    manifest = tree / "protocol.yml"
    lines = [
        f'version: "{version}"' if line.startswith("version") else line
        for line in manifest.read_text().splitlines()
    ]
    manifest.write_text("\n".join(lines) + "\n")
    (tree / "main.py").write_text(source)


def unpacked(store: ProtocolStore, commit: str) -> tarfile.TarFile:
    return tarfile.open(fileobj=io.BytesIO(b"".join(store.archive("demo", commit))))


def test_import_archive_and_back(store: ProtocolStore, tree: Path) -> None:
    (tree / "run.sh").write_text("#!/bin/sh\n")
    (tree / "run.sh").chmod(0o755)
    (tree / "link").symlink_to("main.py")
    version = store.import_tree(tree)
    assert version.created
    assert store.names() == ["demo"]
    with unpacked(store, version.commit) as tar:
        modes = {member.name: oct(member.mode) for member in tar if member.isfile()}
        assert modes == {"main.py": "0o644", "protocol.yml": "0o644", "run.sh": "0o755"}
        assert tar.getmember("link").linkname == "main.py"
        assert b"hello" in tar.extractfile("main.py").read()  # type: ignore[union-attr]
    assert check_archive(io.BytesIO(b"".join(store.archive("demo", version.commit)))).ok
    assert store.manifest("demo", version.commit) == version.manifest


def test_an_unchanged_tree_makes_no_commit(store: ProtocolStore, tree: Path) -> None:
    first = store.import_tree(tree)
    (tree / "__pycache__").mkdir()
    (tree / "__pycache__" / "x.pyc").write_bytes(b"x")
    second = store.import_tree(tree)
    assert (second.commit, second.created) == (first.commit, False)


def test_a_version_never_changes(store: ProtocolStore, tree: Path) -> None:
    first = store.import_tree(tree)
    edit(tree, "1.0.0", "print('changed')\n")
    with pytest.raises(VersionChanged, match=r"1\.0\.0"):
        store.import_tree(tree)
    assert store.versions("demo") == {"1.0.0": first.commit}


def test_versions_newest_first(store: ProtocolStore, tree: Path) -> None:
    commits = {}
    for version in ("1.0.0", "1.1.0", "0.9.1"):
        edit(tree, version, f"print('{version}')\n")
        commits[version] = store.import_tree(tree).commit
    assert list(store.versions("demo").items()) == list(reversed(commits.items()))
    assert store.resolve("demo") == commits["0.9.1"]
    assert store.resolve("demo", "1.0.0") == commits["1.0.0"]
    assert store.resolve("demo", commits["1.1.0"]) == commits["1.1.0"]


def test_the_same_content_may_have_two_versions_only_by_its_manifest(
    store: ProtocolStore, tree: Path
) -> None:
    first = store.import_tree(tree)
    edit(tree, "2", (tree / "main.py").read_text())
    assert store.import_tree(tree).commit != first.commit


def test_bytes_are_kept_as_they_are(store: ProtocolStore, tree: Path) -> None:
    """Whatever the protocol's own .gitattributes and the machine's git configuration say."""
    (tree / ".gitattributes").write_text("* text=auto eol=lf\nhidden export-ignore\nsubst export-subst\n")
    (tree / "dos").write_bytes(b"a\r\nb\r\n")
    (tree / "hidden").write_bytes(b"h")
    (tree / "subst").write_bytes(b"$Format:%H$")
    commit = store.import_tree(tree).commit
    with unpacked(store, commit) as tar:
        content = {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}  # type: ignore[union-attr]
    assert content["dos"] == b"a\r\nb\r\n"
    assert content["hidden"] == b"h"
    assert content["subst"] == b"$Format:%H$"


def test_a_faulty_tree_leaves_nothing(store: ProtocolStore, tree: Path) -> None:
    (tree / "main.py").write_text("def (\n")
    with pytest.raises(InvalidProtocol):
        store.import_tree(tree)
    assert store.names() == []


@pytest.mark.parametrize("name", ["none", "..", "../demo", "demo.git", "", "demo\n", "-x"])
def test_unknown_protocols(store: ProtocolStore, tree: Path, name: str) -> None:
    store.import_tree(tree)
    with pytest.raises(UnknownProtocol):
        store.resolve(name)


@pytest.mark.parametrize("version", ["2", "HEAD", "main", "--help", "a" * 40, "1.0.0\n"])
def test_unknown_versions(store: ProtocolStore, tree: Path, version: str) -> None:
    store.import_tree(tree)
    with pytest.raises(UnknownVersion):
        store.resolve("demo", version)


@pytest.mark.parametrize("commit", ["HEAD", "--output=x", "main", ""])
def test_an_archive_is_of_a_commit(store: ProtocolStore, tree: Path, commit: str) -> None:
    store.import_tree(tree)
    with pytest.raises(UnknownVersion):
        store.archive("demo", commit)


def test_an_archive_of_a_commit_that_is_not_there(store: ProtocolStore, tree: Path) -> None:
    store.import_tree(tree)
    with pytest.raises(StoreError):
        store.archive("demo", "a" * 40)


def test_many_import_the_same_at_once(store: ProtocolStore, tree: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        versions = list(pool.map(lambda _: store.import_tree(tree), range(16)))
    assert len({version.commit for version in versions}) == 1
    assert sum(version.created for version in versions) <= 2  # equal commits in the same second are one


def test_the_repository_is_sound_and_plain_git_reads_it(store: ProtocolStore, tree: Path) -> None:
    commit = store.import_tree(tree).commit
    path = store.directory / "demo.git"
    subprocess.run(["git", "-C", str(path), "fsck", "--strict"], check=True, capture_output=True)
    log = subprocess.run(
        ["git", "-C", str(path), "log", "--format=%H %s", "main"], check=True, capture_output=True, text=True
    ).stdout
    assert log == f"{commit} demo 1.0.0\n"


def test_an_abandoned_archive_leaves_no_process(store: ProtocolStore, tree: Path) -> None:
    (tree / "big").write_bytes(b"x" * 8_000_000)
    chunks = store.archive("demo", store.import_tree(tree).commit)
    assert next(chunks)
    chunks.close()  # type: ignore[attr-defined]


def test_what_a_killed_process_has_left_is_swept_when_it_is_old(store: ProtocolStore, tree: Path) -> None:
    store.import_tree(tree)
    for name in (".push-old", ".push-new"):
        (store.directory / name / "demo.git").mkdir(parents=True)
    os.utime(store.directory / ".push-old", (0, 0))
    assert store.sweep() == 1
    assert sorted(path.name for path in store.directory.iterdir()) == [".push-new", "demo.git"]


def test_a_repository_is_packed_anew_and_keeps_every_version(store: ProtocolStore, tree: Path) -> None:
    commits = []
    for number in range(5):
        edit(tree, f"1.{number}.0", f"print({number})\n")
        commits.append(store.import_tree(tree).commit)
        subprocess.run(["git", "-C", str(store.path("demo")), "repack", "-q"], check=True)
    packs = store.path("demo") / "objects" / "pack"
    assert store.gc("demo", packs=50, loose=100_000, prune_days=14) == 0
    assert len(list(packs.glob("*.pack"))) == 5
    assert store.gc("demo", packs=2, loose=100_000, prune_days=14) > 0
    assert len(list(packs.glob("*.pack"))) == 1
    assert [store.file("demo", commit, "main.py", 100) for commit in commits] == [
        f"print({number})\n".encode() for number in range(5)
    ]


def test_packing_waits_for_a_backup(store: ProtocolStore, tree: Path) -> None:
    store.import_tree(tree)
    with store.unread():
        pass
    with (store.directory / ".backup.lock").open() as backup, ThreadPoolExecutor() as pool:
        fcntl.flock(backup, fcntl.LOCK_SH)
        packing = pool.submit(store.gc, "demo", packs=1, loose=1, prune_days=14)
        with pytest.raises(TimeoutError):
            packing.result(timeout=0.5)
        fcntl.flock(backup, fcntl.LOCK_UN)
        packing.result(timeout=60)
