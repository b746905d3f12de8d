"""`labfleet protocols lock-r`: hashes into a lock file, of a directory and of an index on the loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from r_index import RIndex, r_package, record, renv_lock

from labfleet.cli import cli
from labfleet.errors import LabfleetError
from labfleet.protocols.renvlock import read_lock

ALPHA, BETA, OWN = r_package("alpha", "1.0"), r_package("beta", "2.0"), r_package("own", "0.1")


@pytest.fixture
def index() -> Iterator[RIndex]:
    with RIndex(ALPHA, BETA) as server:
        server.old.add(ALPHA[0])
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "renv.lock"
    path.write_text(renv_lock(unhashed(ALPHA), unhashed(BETA)))
    return path


def unhashed(file: tuple[str, bytes], **about: Any) -> dict[str, Any]:
    found = record(file, **about)
    del found["SHA256"]
    return found


def run(*words: str | Path) -> str:
    done = CliRunner().invoke(cli, ["protocols", "lock-r", *map(str, words)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_hashes_come_from_the_index(lock: Path, index: RIndex) -> None:
    written = run(lock, "--index", index.url)
    assert written.splitlines()[-1] == f"{lock}: 2 packages, 2 hashed now"
    assert lock.read_text() == renv_lock(record(ALPHA), record(BETA))
    assert read_lock("renv.lock", lock.read_bytes()).pins

    index.asked.clear()
    assert "0 hashed now" in run(lock, "--index", index.url)
    assert index.asked == []


def test_tarballs_come_along(lock: Path, index: RIndex, tmp_path: Path) -> None:
    folder = tmp_path / "r-packages"
    folder.mkdir()
    (folder / OWN[0]).write_bytes(OWN[1])
    lock.write_text(renv_lock(record(ALPHA), unhashed(BETA), unhashed(OWN, Source="Local")))

    run(lock, "--index", index.url, "--tarballs", folder)

    assert lock.read_text() == renv_lock(record(ALPHA), record(BETA), record(OWN, Source="Local"))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == dict([ALPHA, BETA, OWN])
    assert not [path for path in index.asked if "own" in path]
    index.down = True
    run(lock, "--index", index.url, "--tarballs", folder)


@pytest.mark.parametrize(
    ("records", "words"),
    [
        (
            [unhashed(r_package("gamma", "1.0"))],
            "gamma 1.0 (gamma_1.0.tar.gz) is not in the protocol's tarballs, http://",
        ),
        ([unhashed(ALPHA), unhashed(OWN, Source="Local")], "own 0.1 (own_0.1.tar.gz) is not in"),
        ([record(ALPHA, SHA256="0" * 64)], "alpha 1.0 has another SHA-256"),
        ([unhashed(ALPHA, Source="GitHub")], "comes from 'GitHub'"),
    ],
)
def test_what_can_not_be_had_leaves_all_as_it_was(
    lock: Path, index: RIndex, tmp_path: Path, records: list[dict[str, Any]], words: str
) -> None:
    lock.write_text(renv_lock(*records))
    before = lock.read_bytes()
    with pytest.raises(LabfleetError) as caught:
        run(lock, "--index", index.url, "--tarballs", tmp_path / "r-packages")
    assert words in caught.value.detail
    assert lock.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["renv.lock"]


def test_an_index_that_is_away(lock: Path, index: RIndex) -> None:
    index.down = True
    with pytest.raises(LabfleetError) as caught:
        run(lock, "--index", index.url)
    assert "HTTP status 503" in caught.value.detail


def test_the_lock_file_is_read_as_it_is_in_this_directory(
    lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(lock.parent)
    lock.write_text(json.dumps({"R": {"Version": "4.2.2"}, "Packages": {"ä": record(ALPHA)}}))
    with pytest.raises(LabfleetError) as caught:
        run()
    assert caught.value.detail.startswith("renv.lock:1: The record of 'ä'")
