from __future__ import annotations

import subprocess
import sys
from ipaddress import ip_network

import pytest

from labfleet.fetching.guard import check
from labfleet.fetching.handlers.base import Refused
from labfleet.fetching.single import scrubbed

PUBLIC = [ip_network("0.0.0.0/0"), ip_network("::/0")]


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"])
def test_public_addresses(address: str) -> None:
    check((address, 443), PUBLIC, [443])
    with pytest.raises(Refused, match="port 25 may not be fetched from"):
        check((address, 25), PUBLIC, [443])


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"),
        *("224.0.0.1", "::1", "::", "fe80::1%eth0", "fd00::1", "ff02::1"),
        # Those that stand for an address of version 4.
        *("::ffff:127.0.0.1", "64:ff9b::a00:1", "2002:7f00:1::"),
    ],
)
def test_private_ones_are_closed_unless_they_are_named(address: str) -> None:
    with pytest.raises(Refused, match="lies in no network that may be fetched from"):
        check((address, 443), PUBLIC, [443])


def test_a_private_network_that_is_named() -> None:
    check(("10.1.2.3", 443), [*PUBLIC, ip_network("10.1.0.0/16")], [443])
    with pytest.raises(Refused, match=r"10\.2\.0\.1"):
        check(("10.2.0.1", 443), [*PUBLIC, ip_network("10.1.0.0/16")], [443])


def test_a_name_is_never_connected_to() -> None:
    with pytest.raises(Refused, match="before it was resolved"):
        check(("localhost", 443), PUBLIC, [443])


def test_whatever_connects_is_held_to_it() -> None:
    """In a process of its own, for it can't be taken back."""
    program = """
import socket
from ipaddress import ip_network
from labfleet.fetching import guard
server = socket.create_server(("127.0.0.1", 0))
guard.only_to([ip_network("0.0.0.0/0")], [server.getsockname()[1]])
for connect in (
    lambda: socket.create_connection(server.getsockname()),
    lambda: socket.create_connection(("localhost", server.getsockname()[1])),
    lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", server.getsockname()),
):
    try:
        connect()
    except OSError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.count("127.0.0.1 lies in no network") == 3, done


def test_a_message_has_no_credential_in_it() -> None:
    said = scrubbed("password 'abcd' of ab is wrong", {"user": "ab", "password": "abcd", "none": ""})
    assert said == "password '***' of *** is wrong"
