"""Two servers behind a balancer: each gets requests, either may die, and nobody notices."""

from __future__ import annotations

import json
import ssl
import time

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


def state(host: Host, server: str, wanted: str) -> None:
    """Wait until HAProxy thinks so of the server."""
    deadline = time.monotonic() + 20
    query = "echo show servers state webservers | socat - /run/haproxy/admin.sock"
    while True:
        lines = [line.split() for line in host.check_output(query).splitlines()]
        # Operational state: 2 is well, 0 is out.
        if any(line[3] == server and line[5] == wanted for line in lines if len(line) > 5):
            return
        assert time.monotonic() < deadline, lines
        time.sleep(0.2)


def test_listens_where_it_was_told(host: Host) -> None:
    assert listeners(host) == {"0.0.0.0:80", "0.0.0.0:443", "[::]:80", "[::]:443"}
    assert host.service("haproxy").is_enabled


def test_both_get_requests_and_the_true_client(host: Host) -> None:
    with client(host) as http:
        told = [ask(http, host).text.split() for _ in range(10)]
    assert {name for name, _ in told} == {"one", "two"}
    assert "192.0.2.9" not in {forwarded for _, forwarded in told}


def test_in_clear_people_are_sent_to_tls(host: Host) -> None:
    answer = httpx.get(f"http://{address(host)}/jobs?a=b", headers={"Host": "lab.test"})
    assert (answer.status_code, answer.headers["Location"]) == (308, "https://lab.test/jobs?a=b")


def test_one_is_lost_and_nobody_notices_then_both(host: Host) -> None:
    sites = "/etc/nginx/labfleet.d/servers.conf"
    host.check_output(f"cp {sites} /root/servers.conf")
    try:
        with client(host) as http:
            # Only the first server stays; the balancer has not noticed yet when the next request comes.
            host.check_output(f"sed -i '0,/8442/s//8449/' {sites} && systemctl reload nginx")
            assert [ask(http, host).status_code for _ in range(50)] == [200] * 50
            state(host, "two", "0")
            host.check_output(f"sed -i 's/8441/8448/' {sites} && systemctl reload nginx")
            state(host, "one", "0")
            answer = ask(http, host)
            assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
            assert int(answer.headers["Retry-After"]) > 0
    finally:
        host.check_output(f"cp /root/servers.conf {sites} && systemctl reload nginx")
    for server in ("one", "two"):
        state(host, server, "2")


def test_secrets_and_log(host: Host) -> None:
    pair = host.file("/etc/haproxy/labfleet.pem")
    assert (pair.user, pair.mode) == ("root", 0o600)
    with client(host) as http:
        http.get(f"https://{address(host)}/here?token=hidden", extensions={"sni_hostname": "lab.test"})
    log = host.check_output("journalctl -t haproxy --no-pager | grep /here | tail -n 1")
    assert json.loads(log[log.index("{") :])["path"] == "/here"
    assert "hidden" not in log
