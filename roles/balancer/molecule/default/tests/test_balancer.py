"""Two servers behind a balancer: each gets requests, either may die, and nobody notices."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
from testinfra.host import Host

Ask = Callable[..., httpx.Response]
Listeners = Callable[[], set[str]]
WAIT_SECONDS = 60


def state(host: Host, server: str, wanted: str) -> None:
    """Wait until HAProxy thinks so of the server."""
    deadline = time.monotonic() + WAIT_SECONDS
    while f"{server}: {wanted}," not in (said := host.check_output("labfleet-balancer show")):
        assert time.monotonic() < deadline, said
        time.sleep(0.2)


def test_listens_where_it_was_told(host: Host, listeners: Listeners) -> None:
    assert listeners() == {"0.0.0.0:80", "0.0.0.0:443", "[::]:80", "[::]:443"}
    assert host.service("haproxy").is_enabled


def test_both_get_requests_and_the_true_client(ask: Ask) -> None:
    told = [ask().text.split() for _ in range(10)]
    assert {name for name, _ in told} == {"one", "two"}
    assert "192.0.2.9" not in {forwarded for _, forwarded in told}


def test_in_clear_people_are_sent_to_tls(ask: Ask) -> None:
    answer = ask("/jobs?a=b", scheme="http", port=80)
    assert (answer.status_code, answer.headers["Location"]) == (
        308,
        "https://lab.test/jobs?a=b",
    )


def test_one_is_taken_out_and_put_in_again_but_never_the_last(host: Host, ask: Ask) -> None:
    for server in ("one", "two"):
        state(host, server, "UP")
    assert host.check_output("labfleet-balancer out one") == "one is out."
    try:
        assert {ask().text.split()[0] for _ in range(10)} == {"two"}
        assert "no other webserver is well" in host.check_output("labfleet-balancer out two")
        assert ask().status_code == 200
    finally:
        assert host.check_output("labfleet-balancer in one") == "one is in."
    assert {ask().text.split()[0] for _ in range(10)} == {"one", "two"}
    unknown = host.run("labfleet-balancer out three")
    assert (unknown.rc, "'three'; it knows one, two" in unknown.stderr) == (3, True)


def test_who_is_taken_out_ends_what_it_has(host: Host, ask: Ask) -> None:
    """Its slow answer (about 10 s) is not cut off."""
    for server in ("one", "two"):
        state(host, server, "UP")
    # The other one is out, so that it is known who is asked.
    host.check_output("labfleet-balancer out two")
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(ask, "/slow")
        deadline = time.monotonic() + WAIT_SECONDS
        while "one: UP, 1 requests" not in host.check_output("labfleet-balancer show"):
            assert time.monotonic() < deadline
        host.check_output("labfleet-balancer in two")
        assert host.check_output("labfleet-balancer out one") == "one is out."
        assert "one: DRAIN, 0 requests" in host.check_output("labfleet-balancer show")
        assert len(slow.result().text) == 3000
    host.check_output("labfleet-balancer in one")


def test_one_is_lost_and_nobody_notices_then_both(host: Host, ask: Ask) -> None:
    sites = "/etc/nginx/labfleet.d/servers.conf"
    host.check_output(f"cp {sites} /root/servers.conf")
    try:
        # Only the first server stays; the balancer has not noticed yet when the next request comes.
        host.check_output(f"sed -i '0,/8442/s//8449/' {sites} && systemctl reload nginx")
        assert [ask().status_code for _ in range(50)] == [200] * 50
        state(host, "two", "DOWN")
        unwell = host.run("labfleet-balancer in two --seconds 1")
        assert (unwell.rc, "two is DOWN after 1 s" in unwell.stderr) == (1, True)
        host.check_output(f"sed -i 's/8441/8448/' {sites} && systemctl reload nginx")
        state(host, "one", "DOWN")
        answer = ask()
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert int(answer.headers["Retry-After"]) > 0
    finally:
        host.check_output(f"cp /root/servers.conf {sites} && systemctl reload nginx")
    for server in ("one", "two"):
        state(host, server, "UP")


def test_secrets_and_log(host: Host, ask: Ask) -> None:
    pair = host.file("/etc/haproxy/labfleet.pem")
    assert (pair.user, pair.mode) == ("root", 0o600)
    ask("/here?token=hidden")
    log = host.check_output("journalctl -t haproxy --no-pager | grep /here | tail -n 1")
    assert json.loads(log[log.index("{") :])["path"] == "/here"
    assert "hidden" not in log
