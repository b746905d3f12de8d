"""A balancer with every variable moved off its default."""

from __future__ import annotations

import ssl

import httpx
from testinfra.host import Host


def address(host: Host) -> str:
    return str(host.check_output("hostname -I")).split()[0]


def client(host: Host) -> httpx.Client:
    """A client that knows the lab's authority and asks for lab.test."""
    context = ssl.create_default_context(cadata=host.file("/etc/haproxy/labfleet-ca.crt").content_string)
    return httpx.Client(
        verify=context, headers={"Host": "lab.test", "X-Forwarded-For": "192.0.2.9"}, timeout=10
    )


def ask(http: httpx.Client, host: Host, port: int = 443) -> httpx.Response:
    return http.get(f"https://{address(host)}:{port}/", extensions={"sni_hostname": "lab.test"})


def listeners(host: Host) -> set[str]:
    lines = host.check_output("ss -Hlntp").splitlines()
    return {line.split()[3] for line in lines if "haproxy" in line}


def test_listens_where_it_was_told(host: Host) -> None:
    assert listeners(host) == {f"{address(host)}:8080", f"{address(host)}:8443"}


def test_a_server_with_a_wrong_certificate_gets_nothing(host: Host) -> None:
    with client(host) as http:
        assert {ask(http, host, 8443).text.split()[0] for _ in range(10)} == {"one"}


def test_settings(host: Host) -> None:
    lines = [line.strip() for line in host.file("/etc/haproxy/haproxy.cfg").content_string.splitlines()]
    for line in ("maxconn 200", "timeout connect 2s", "timeout server 30s", "timeout client 30s"):
        assert line in lines
    assert any("uri /well " in line for line in lines)
    assert any("inter 2s fall 1 rise 1" in line for line in lines)
