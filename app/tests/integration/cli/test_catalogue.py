from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session, sessionmaker

from labfleet.datasets import previews
from labfleet.datasets.profile import Bounds, profile

Run = Callable[..., Any]
PROTOCOLS = Path(__file__).parents[3] / "protocols"


def test_protocols(signed_in: Run) -> None:
    ended = signed_in("protocols", "list")
    assert ended.out.split("\n")[1].split()[:2] == ["table-summary", "1.0.1"]
    assert signed_in("protocols").out == ended.out
    assert [item["name"] for item in json.loads(signed_in("protocols", "list", "--json").out)] == [
        "table-summary"
    ]


def test_show_a_protocol(signed_in: Run) -> None:
    ended = signed_in("protocols", "show", "table-summary")
    assert ended.code == 0
    for text in ("auto|comma|semicolon|tab|pipe", '"auto"', "summary.csv", "required"):
        assert text in ended.out
    assert json.loads(signed_in("protocols", "show", "table-summary", "--json").out)["version"] == "1.0.1"


@pytest.mark.parametrize("name", ["none", "..", "../../health", "a b", "%2e%2e"])
def test_an_unknown_protocol(signed_in: Run, name: str) -> None:
    ended = signed_in("protocols", "show", name)
    assert ended.code == 1
    assert ended.err.startswith("Error: ")


@pytest.mark.parametrize("name", ["table-summary", "differential-network"])
def test_the_server_checks_the_shipped_protocols(signed_in: Run, name: str) -> None:
    ended = signed_in("protocols", "check", str(PROTOCOLS / name))
    assert ended.code == 0, ended.err
    assert "no fault found" in ended.out


def test_the_server_tells_the_faults(signed_in: Run, tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/protocol.yml").write_text("labfleet: 1\nname: bad\n")
    (tmp_path / "bad/main.py").write_text("def (\n")
    ended = signed_in("protocols", "check", str(tmp_path / "bad"))
    assert ended.code == 1
    assert "protocol.yml:1: command:" in ended.err
    assert "main.py:1: Python" in ended.err
    assert not json.loads(signed_in("protocols", "check", "--json", str(tmp_path / "bad")).out)["ok"]


def test_import_is_idempotent_and_versions_do_not_change(signed_in: Run, tmp_path: Path) -> None:
    tree = tmp_path / "copy"
    shutil.copytree(PROTOCOLS / "table-summary", tree)
    ended = signed_in("protocol", "import", str(tree))
    assert ended.out.startswith("unchanged table-summary 1.0.1 ")
    (tree / "README.md").write_text("changed")
    ended = signed_in("protocol", "import", str(tree))
    assert ended.code == 1
    assert "with other content" in ended.err
    manifest = tree / "protocol.yml"
    manifest.write_text(manifest.read_text().replace('"1.0.1"', '"1.0.2"'))
    assert signed_in("protocol", "import", str(tree)).out.startswith("imported table-summary 1.0.2 ")
    assert signed_in("protocols", "list").out.split("\n")[1].split()[1] == "1.0.2"


def test_repositories_are_packed_anew(signed_in: Run) -> None:
    ended = signed_in("protocol", "gc")
    assert (ended.code, ended.out) == (0, "packed: 0 repositories, 0 bytes less\n")


def test_check_before_import(run: Run, tmp_path: Path) -> None:
    assert "no fault found" in run("protocol", "check", str(PROTOCOLS / "differential-network")).out
    (tmp_path / "empty").mkdir()
    ended = run("protocol", "check", str(tmp_path / "empty"))
    assert ended.code == 1
    assert "There is no file protocol.yml" in ended.err


def test_datasets_there_and_back(signed_in: Run, tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    (tmp_path / "data.bin").write_bytes(content)
    dataset = signed_in("datasets", "upload", str(tmp_path / "data.bin")).out.strip()
    assert "data.bin" in signed_in("datasets").out
    assert json.loads(signed_in("datasets", "list", "--json").out)[0]["id"] == dataset
    ended = signed_in("datasets", "download", dataset, "-o", str(tmp_path / "back"))
    assert ended.code == 0, ended.err
    assert (tmp_path / "back").read_bytes() == content


def test_a_broken_off_download_goes_on(signed_in: Run, tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    (tmp_path / "data.bin").write_bytes(content)
    found = json.loads(signed_in("datasets", "upload", "--json", str(tmp_path / "data.bin")).out)
    (tmp_path / "data.bin").unlink()
    part = tmp_path / f".data.bin.{found['sha256'][:12]}.part"
    part.write_bytes(content[:1000])
    assert signed_in("datasets", "download", found["id"]).code == 0
    assert (tmp_path / "data.bin").read_bytes() == content
    assert not part.exists()


def test_a_damaged_part_is_found_out(signed_in: Run, tmp_path: Path) -> None:
    (tmp_path / "data.bin").write_bytes(b"0123456789")
    found = json.loads(signed_in("datasets", "upload", "--json", str(tmp_path / "data.bin")).out)
    (tmp_path / "data.bin").unlink()
    (tmp_path / f".data.bin.{found['sha256'][:12]}.part").write_bytes(b"xxx")
    ended = signed_in("datasets", "download", found["id"])
    assert ended.code == 1
    assert "arrived damaged" in ended.err
    assert signed_in("datasets", "download", found["id"]).code == 0


def test_no_dataset(signed_in: Run) -> None:
    assert "Upload one" in signed_in("datasets").err
    assert signed_in("datasets", "download", "00000000-0000-0000-0000-000000000000").code == 1
    assert signed_in("datasets", "upload", "/nowhere").code == 2


def test_workers(signed_in: Run) -> None:
    assert "No worker has reported yet" in signed_in("workers").err
    assert json.loads(signed_in("workers", "--json").out) == []


def test_a_dataset_with_versions_and_a_preview(
    signed_in: Run, tmp_path: Path, sessions: sessionmaker[Session]
) -> None:
    (tmp_path / "a.csv").write_text("gene;count\na;1\nb;\n")
    options = (
        "--description",
        "Counts",
        "--licence",
        "CC0-1.0",
        "--labels",
        "pilot, plate 4",
        "--terms",
        "obo:1",
    )
    first = signed_in("datasets", "upload", "a.csv", *options).out.strip()
    assert "is being made" in signed_in("datasets", "show", first).out
    with sessions.begin() as db:
        taken = previews.take(db, 60, 3)
        assert taken is not None
        bounds = Bounds(256 * 1024**2, 5, 5)
        previews.settle(db, taken, profile(tmp_path / "a.csv", taken.form, tmp_path, bounds), "")
    shown = signed_in("datasets", "show", first).out
    for text in (
        "a.csv, version 1 of 1",
        "labels: pilot, plate 4",
        "2 rows, 2 columns (utf-8, separator semicolon",
    ):
        assert text in shown
    assert [line.split()[:5] for line in shown.splitlines()[-2:]] == [
        ["gene", "text", "0", "2", "a"],
        ["count", "whole", "number", "1", "1"],
    ]
    second = signed_in("datasets", "upload", "a.csv", "--previous", first).out.strip()
    assert "version 2 of 2" in signed_in("datasets", "show", second).out
    assert signed_in("datasets", "change", second, "--labels", "", "--description", "More").code == 0
    found = json.loads(signed_in("datasets", "show", second, "--json").out)
    assert (found["description"], found["labels"], found["licence"]) == ("More", [], "CC0-1.0")
    assert [each["id"] for each in found["versions"]] == [second, first]
    assert found["preview"]["state"] == "queued"
    assert signed_in("datasets", "change", second).code == 2


def test_datasets_are_shared_searched_and_deleted(
    signed_in: Run, tmp_path: Path, make_user: Callable[..., Any]
) -> None:
    make_user("eve")
    (tmp_path / "plate.csv").write_text("a\n1\n")
    dataset = signed_in("datasets", "upload", "plate.csv", "--labels", "pilot").out.strip()
    assert dataset in signed_in("datasets", "list", "--text", "plate", "--label", "pilot", "--mine").out
    assert dataset not in signed_in("datasets", "list", "--term", "none").out
    assert "shared, shared with eve" in signed_in("datasets", "share", dataset, "--user", "eve").out
    assert "public, shared with eve" in signed_in("datasets", "share", dataset, "--everybody").out
    assert ": private." in signed_in("datasets", "unshare", dataset, "--user", "eve", "--everybody").out
    assert signed_in("datasets", "share", dataset).code == 2
    assert signed_in("datasets", "delete", dataset).code == 0
    assert signed_in("datasets", "delete", dataset).code == 1
    swept = signed_in("store", "sweep", "--dry-run")
    told = "0 contents, 0 strays, 0 bytes; 1 contents are wanted by nobody, and spared until that is so for"
    assert swept.out == f"would remove: 0 datasets, {told} 168 hours\n", swept.err
    assert signed_in("store", "sweep", "--hours", "5").out == f"removed: 0 datasets, {told} 5 hours\n"
    assert signed_in("store", "sweep", "--unused-days", "1").out.startswith("removed: 0 datasets")


def test_search(signed_in: Run) -> None:
    ended = signed_in("search", "table", "summ")
    assert ended.out.split("\n")[1].split()[:2] == ["table-summary", "protocol"]
    assert signed_in("search", "--kind", "result", "table").err.startswith("Nothing was found")
    (found,) = json.loads(signed_in("search", "summary", "--format", "csv", "--json").out)["items"]
    assert found["id"] == "table-summary"
    counted = signed_in("search", "--facets").out.split("\n")[1:]
    assert ["protocol", "kind", "1"] in [line.split() for line in counted]
