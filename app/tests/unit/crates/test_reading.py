"""Crates that mean no good, or are none."""

from __future__ import annotations

import hashlib
import io
import json
import stat
import tarfile
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest

from labfleet.cli.crates import rewritten
from labfleet.crates.reading import MEMBERS, Crate, InvalidCrate
from labfleet.errors import LabfleetError

DATA = b"a,b\n1,2\n"
INPUT = {
    "@id": "inputs/x/my%20table.csv",
    "@type": "File",
    "name": "my table.csv",
    "identifier": "urn:uuid:1234",
    "contentSize": str(len(DATA)),
    "sha256": hashlib.sha256(DATA).hexdigest(),
}
PROTOCOL = {
    "@id": "protocols/own/abc/",
    "@type": ["Dataset", "SoftwareSourceCode"],
    "name": "own",
    "version": "1.0.0",
    "identifier": ["urn:git:commit:abc", "urn:git:tree:def"],
}
FILES: dict[str, bytes] = {
    "request.json": b'{"protocol": "own"}',
    "inputs/x/my table.csv": DATA,
    "protocols/own/abc/protocol.yml": b"labfleet: 1\n",
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x.zip"


def write(path: Path, graph: Any = (INPUT, PROTOCOL), files: dict[str, bytes | None] | None = None) -> Path:
    content: dict[str, bytes | None] = {
        "ro-crate-metadata.json": json.dumps({"@graph": graph}).encode(),
        **FILES,
        **(files or {}),
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            if data is not None:
                archive.writestr(name, data)
    return path


def test_a_good_one(path: Path, tmp_path: Path) -> None:
    with Crate(write(path)) as crate:
        (item,), (protocol,) = crate.inputs(), crate.protocols()
        crate.save(item, tmp_path / "out")
        packed = crate.packed(protocol)

    assert crate.request == {"protocol": "own"}
    assert (item.datasets, item.name) == (("1234",), "my table.csv")
    assert (protocol.name, protocol.version, protocol.commit, protocol.tree) == ("own", "1.0.0", "abc", "def")
    assert (tmp_path / "out").read_bytes() == DATA
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        assert tar.getnames() == ["protocol.yml"]


def test_programs_and_links_stay_what_they_are(path: Path) -> None:
    write(path)
    with zipfile.ZipFile(path, "a") as archive:
        for name, mode, data in (
            ("run.sh", stat.S_IFREG | 0o755, "#!/bin/sh"),
            ("link", stat.S_IFLNK | 0o777, "run.sh"),
        ):
            info = zipfile.ZipInfo(f"protocols/own/abc/{name}")
            info.external_attr = mode << 16
            archive.writestr(info, data)
    with Crate(path) as crate:
        packed = crate.packed(crate.protocols()[0])
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        assert tar.getmember("run.sh").mode == 0o755
        assert tar.getmember("protocol.yml").mode == 0o644
        assert (tar.getmember("link").issym(), tar.getmember("link").linkname) == (True, "run.sh")


@pytest.mark.parametrize(
    "files",
    [
        {"ro-crate-metadata.json": None},
        {"request.json": None},
        {"request.json": b"{"},
        {"request.json": b"[1]"},
        {"request.json": b"[" * 100_000},
        {"ro-crate-metadata.json": b"[]"},
        {"ro-crate-metadata.json": b'{"@graph": 1}'},
        {"../out": b""},
        {"/etc/passwd": b""},
        {"inputs/bomb": b"0" * 5_000_000},
    ],
    ids=lambda files: next(iter(files)),
)
def test_refused_at_once(path: Path, files: dict[str, bytes | None]) -> None:
    write(path, files=files)
    with pytest.raises(InvalidCrate):
        Crate(path)


def test_no_zip_and_too_many_and_twice(path: Path) -> None:
    path.write_bytes(b"PK\3\4 no")
    with pytest.raises(InvalidCrate):
        Crate(path)
    write(path)
    with zipfile.ZipFile(path, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr("request.json", b"{}")
    with pytest.raises(InvalidCrate, match="twice"):
        Crate(path)
    write(path, files={f"x{number}": b"" for number in range(MEMBERS)})
    with pytest.raises(InvalidCrate, match="more than"):
        Crate(path)


@pytest.mark.parametrize(
    "change",
    [
        {"sha256": "0" * 64},
        {"contentSize": "1"},
        {"contentSize": "many"},
        {"contentSize": "999"},
        {"@id": "inputs/none"},
        {"sha256": None},
    ],
)
def test_an_input_that_is_not_what_it_says(path: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    with Crate(write(path, [{**INPUT, **change}])) as crate, pytest.raises(InvalidCrate):
        crate.save(crate.inputs()[0], tmp_path / "out")


@pytest.mark.parametrize("folder", ["protocols/none/", "../", "/etc/", "protocols/own/abc/../../"])
def test_a_protocol_without_files(path: Path, folder: str) -> None:
    with Crate(write(path, [{**PROTOCOL, "@id": folder}])) as crate, pytest.raises(LabfleetError):
        crate.packed(crate.protocols()[0])


def test_a_damaged_file(path: Path, tmp_path: Path) -> None:
    content = bytearray(write(path).read_bytes())
    start = content.index(b"inputs/x/my table.csv") + len("inputs/x/my table.csv")
    content[start + 2] ^= 0xFF
    path.write_bytes(bytes(content))
    with Crate(path) as crate, pytest.raises(InvalidCrate):
        crate.save(crate.inputs()[0], tmp_path / "out")


def test_the_request_gets_your_datasets_and_the_versions_that_were_used() -> None:
    one, two = "11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222"
    request = {
        "label": one,
        "webhook": "https://example.org",
        "tree": {
            "parallel": [
                {"task": "a", "protocol": "p", "inputs": {"x": one, "y": {"task": "b", "output": "o"}}},
                {
                    "task": "b",
                    "protocol": "q",
                    "version": "9",
                    "parameters": {"x": one},
                    "sweep": {"grid": {"inputs.x": [one, two], "parameters.y": [one]}},
                },
                {"task": "c", "protocol": "p", "sweep": {"list": [{"inputs": {"x": one}}]}},
            ]
        },
    }
    assert rewritten(request, {"p": "1", "q": "2"}, {one: "mine"}) == {
        "label": one,
        "tree": {
            "parallel": [
                {
                    "task": "a",
                    "protocol": "p",
                    "version": "1",
                    "inputs": {"x": "mine", "y": {"task": "b", "output": "o"}},
                },
                {
                    "task": "b",
                    "protocol": "q",
                    "version": "9",
                    "parameters": {"x": one},
                    "sweep": {"grid": {"inputs.x": ["mine", two], "parameters.y": [one]}},
                },
                {
                    "task": "c",
                    "protocol": "p",
                    "version": "1",
                    "sweep": {"list": [{"inputs": {"x": "mine"}}]},
                },
            ]
        },
    }
