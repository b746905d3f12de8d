"""What both scenarios ask the balancer with."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator

import httpx
import pytest
from testinfra.host import Host


@pytest.fixture
def address(host: Host) -> str:
    return str(host.check_output("hostname -I")).split()[0]


@pytest.fixture
def ask(host: Host, address: str) -> Iterator[Callable[..., httpx.Response]]:
    """Ask for lab.test, trusting the lab's authority alone; says of itself what must not count."""
    context = ssl.create_default_context(cadata=host.file("/etc/haproxy/labfleet-ca.crt").content_string)
    headers = {"Host": "lab.test", "X-Forwarded-For": "192.0.2.9"}
    with httpx.Client(verify=context, headers=headers, timeout=30) as http:

        def get(path: str = "/", port: int = 443, scheme: str = "https") -> httpx.Response:
            return http.get(
                f"{scheme}://{address}:{port}{path}",
                extensions={"sni_hostname": "lab.test"},
            )

        yield get


@pytest.fixture
def listeners(host: Host) -> Callable[[], set[str]]:
    """Where HAProxy listens."""

    def where() -> set[str]:
        lines = host.check_output("ss -Hlntp").splitlines()
        return {line.split()[3] for line in lines if "haproxy" in line}

    return where
