from __future__ import annotations

from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from labfleet.config import WebhooksSection
from labfleet.dispatch.caller import AddressRefused, Caller, check_addresses
from labfleet.errors import ConfigError
from labfleet.networks import is_allowed


@pytest.mark.parametrize(
    ("address", "networks", "allowed"),
    [
        ("192.0.2.7", ["192.0.2.0/24"], True),
        ("192.0.3.7", ["192.0.2.0/24"], False),
        ("192.0.2.7", [], False),
        ("192.0.2.7", ["10.0.0.0/8", "192.0.2.7/32"], True),
        ("127.0.0.1", ["127.0.0.0/8"], True),
        ("10.1.2.3", ["10.0.0.0/8"], True),
        ("100.64.1.1", ["100.64.0.0/10"], True),
        ("2001:db8::1", ["2001:db8::/32"], True),
        ("2001:db8::1", ["192.0.2.0/24"], False),
        # IPv4 in the clothes of IPv6 is what it is.
        ("::ffff:192.0.2.7", ["192.0.2.0/24"], True),
        ("::ffff:127.0.0.1", ["::/0"], False),
        ("::ffff:127.0.0.1", ["::ffff:0:0/96"], False),
        # All of the internet is not the lab's own insides.
        ("8.8.8.8", ["0.0.0.0/0"], True),
        ("127.0.0.1", ["0.0.0.0/0"], False),
        ("10.1.2.3", ["0.0.0.0/0"], False),
        ("192.168.1.1", ["128.0.0.0/1"], False),
        ("169.254.169.254", ["0.0.0.0/0"], False),
        ("100.64.1.1", ["0.0.0.0/0"], False),
        ("0.0.0.0", ["0.0.0.0/0"], False),
        ("::1", ["::/0"], False),
        ("fe80::1", ["::/0"], False),
        ("fd00::1", ["::/0"], False),
        ("2606:4700::1", ["::/0"], True),
    ],
)
def test_where_a_call_may_lead(address: str, networks: list[str], allowed: bool) -> None:
    assert is_allowed(ip_address(address), [ip_network(network) for network in networks]) is allowed


def test_one_bad_address_is_enough() -> None:
    networks = [ip_network("192.0.2.0/24")]
    check_addresses("good.example", [ip_address("192.0.2.1"), ip_address("192.0.2.2")], networks)
    with pytest.raises(AddressRefused, match=r"mixed\.example leads to 127\.0\.0\.1"):
        check_addresses("mixed.example", [ip_address("192.0.2.1"), ip_address("127.0.0.1")], networks)


def test_delays_double_up_to_the_cap() -> None:
    section = WebhooksSection(first_delay_seconds=10, delay_max_seconds=100)
    assert [section.delay(tries) for tries in (1, 2, 3, 4, 5, 6, 10_000)] == [10, 20, 40, 80, 100, 100, 100]


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_ca_file_that_is_no_good_is_named(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "ca.crt"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigError, match=r"ca_file .*ca\.crt"):
        Caller(WebhooksSection(ca_file=file))
