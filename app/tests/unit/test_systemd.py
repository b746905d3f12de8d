from __future__ import annotations

import socket
from pathlib import Path

import pytest

from labfleet import systemd


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_told_where_it_listens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool
) -> None:
    address = f"@{tmp_path}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(address.replace("@", "\0") if abstract else address)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        systemd.notify("READY=1")
        assert receiver.recv(100) == b"READY=1"


def test_nobody_is_told_outside_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    systemd.notify("READY=1")


def test_a_systemd_that_does_not_read_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systemd, "TIMEOUT_SECONDS", 0.01)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        for _ in range(2000):  # more than any queue of datagrams holds
            systemd.notify("WATCHDOG=1")
            if systemd_is_full(tmp_path / "notify"):
                break
        systemd.notify("WATCHDOG=1")
        assert receiver.recv(100) == b"WATCHDOG=1"


def systemd_is_full(address: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        try:
            sender.sendto(b"", str(address))
        except BlockingIOError:
            return True
        return False
