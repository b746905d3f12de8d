"""What the module that looks at a machine tells of ports, names and archives."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from by_path import load


@pytest.fixture(scope="module")
def look() -> ModuleType:
    return load("library/labfleet_look.py")


@pytest.fixture
def listening() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_open(look: ModuleType, listening: int) -> None:
    assert look.knock("127.0.0.1", listening, 2) == "open"


def test_refused(look: ModuleType) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert look.knock("127.0.0.1", port, 2) == "refused"


def test_silent(look: ModuleType) -> None:
    with socket.socket() as server:
        # Nobody accepts, and one connection fills the queue.
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        address = server.getsockname()
        waiting = [socket.socket() for _ in range(3)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(address)
        assert look.knock(*address, 0.2) == "silent"
        for one in waiting:
            one.close()


def test_archives(look: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text(
        "# deb http://old.example.org/debian x main\n"
        "deb [arch=amd64] http://deb.debian.org/debian bookworm main\n"
        "deb cdrom:[x] bookworm main\n"
    )
    (tmp_path / "sources.list.d" / "more.sources").write_text(
        "URIs: https://user:word@apt.example.org:8443/x\n"
    )
    places = [tmp_path / "sources.list", tmp_path / "sources.list.d", tmp_path / "missing"]
    without_proxy = {Path("/etc/apt/apt.conf"): "", Path("/etc/apt/apt.conf.d"): ""}
    real = look.files
    monkeypatch.setattr(
        look, "files", lambda wanted: [] if set(wanted) <= without_proxy.keys() else real(wanted)
    )
    assert look.archives(places) == ["apt.example.org", "deb.debian.org"]


def test_behind_a_proxy_names_are_the_proxys_affair(
    look: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "95proxy").write_text('Acquire::http::Proxy "http://proxy:3128";')
    monkeypatch.setattr(look, "files", lambda _: [tmp_path / "95proxy"])
    assert look.archives([]) == []


def test_names(look: ModuleType) -> None:
    assert look.resolves("localhost")
    assert not look.resolves("no-such-name.invalid")
