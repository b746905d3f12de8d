"""A balancer with every variable moved off its default."""

from __future__ import annotations

from collections.abc import Callable

import httpx
from testinfra.host import Host

Ask = Callable[..., httpx.Response]
Listeners = Callable[[], set[str]]


def test_listens_where_it_was_told(listeners: Listeners, address: str) -> None:
    assert listeners() == {f"{address}:8080", f"{address}:8443"}


def test_a_server_with_a_wrong_certificate_gets_nothing(ask: Ask) -> None:
    assert {ask(port=8443).text.split()[0] for _ in range(10)} == {"one"}


def test_settings(host: Host) -> None:
    lines = [line.strip() for line in host.file("/etc/haproxy/haproxy.cfg").content_string.splitlines()]
    for line in ("maxconn 200", "timeout check 4s", "timeout connect 2s", "timeout server 30s", "timeout client 30s"):
        assert line in lines
    assert any("uri /well ver HTTP/1.1 hdr Host lab.test" in line for line in lines)
    assert any("inter 2s fall 1 rise 1" in line for line in lines)
