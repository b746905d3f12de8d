"""The firewall with every variable moved off its default."""

import json
import socket
from typing import Any

from testinfra.host import Host


def rules(host: Host) -> list[dict[str, Any]]:
    """The rules as the kernel has them."""
    listing = json.loads(host.check_output("nft --json list table inet labfleet"))["nftables"]
    return [entry["rule"] for entry in listing if "rule" in entry]


def commented(host: Host, comment: str) -> list[str]:
    """Whom the rules of a comment let in, as nft writes it."""
    return [json.dumps(rule["expr"][0]["match"]["right"]) for rule in rules(host) if rule.get("comment") == comment]


def test_sources(host: Host) -> None:
    assert len(commented(host, "for everybody")) == 3
    assert '"192.0.2.7"' in commented(host, "for everybody")
    [first] = commented(host, "for the 'first' machine")
    assert first.strip('"').count(".") == 3


def test_only_for_whom_it_is(host: Host) -> None:
    """This computer is not the first machine."""
    host.check_output("systemd-run --unit=probe-81 python3 -m http.server 8081")
    host.check_output("systemd-run --unit=probe-82 python3 -m http.server 8082")
    try:
        host.check_output("timeout 20 sh -c 'until [ $(ss -Hltn | grep -c :808) = 2 ]; do sleep 0.2; done'")
        address = host.check_output("hostname -I").split()[0]
        socket.create_connection((address, 8082), timeout=2).close()
        try:
            socket.create_connection((address, 8081), timeout=1).close()
        except TimeoutError:
            return
        raise AssertionError("8081 is for the first machine alone")
    finally:
        host.check_output("systemctl stop probe-81 probe-82")


def test_ssh(host: Host) -> None:
    text = host.check_output("nft list table inet labfleet")
    assert "ip saddr 10.0.0.0/8 tcp dport { 22, 2222 } accept" in text
    assert "0.0.0.0/0 tcp dport { 22" not in text


def test_six(host: Host) -> None:
    text = host.check_output("nft list table inet labfleet")
    assert "ip6 saddr 2001:db8::/32 udp dport 8083 accept" in text
    assert "ip6 saddr 2001:db8::7 udp dport 8083 accept" in text


def test_what_is_dropped_is_told(host: Host) -> None:
    assert 'log prefix "labfleet dropped: "' in host.check_output("nft list table inet labfleet")
