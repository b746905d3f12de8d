"""The firewall with the role's defaults: ssh comes in, and nothing else does."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from testinfra.host import Host

UNASKED = 8099


@contextmanager
def listening(host: Host, port: int) -> Iterator[str]:
    """Something listens there on every address; gives the machine's."""
    host.check_output(f"systemd-run --unit=probe-{port} python3 -m http.server {port}")
    try:
        host.check_output(f"timeout 20 sh -c 'until ss -Hltn | grep -q :{port}; do sleep 0.2; done'")
        yield host.check_output("hostname -I").split()[0]
    finally:
        host.check_output(f"systemctl stop probe-{port}")


def answers(address: str, port: int) -> bool:
    """Whether a connection from this computer comes through."""
    try:
        socket.create_connection((address, port), timeout=1).close()
    except OSError:
        return False
    return True


def test_nothing_comes_in_but_ssh(host: Host) -> None:
    with listening(host, UNASKED) as address:
        assert answers(address, 22)
        assert not answers(address, UNASKED)


def test_the_machine_reaches_itself(host: Host) -> None:
    with listening(host, UNASKED) as address:
        for own in ("127.0.0.1", address):
            host.check_output(f"timeout 5 bash -c 'exec 3<>/dev/tcp/{own}/{UNASKED}'")


def test_pings_come_in(host: Host) -> None:
    assert "{ 1, 58 } accept" in host.check_output("nft --numeric-protocol list table inet labfleet")


def test_tables_of_others_stay(host: Host) -> None:
    host.check_output("nft add table inet somebody")
    try:
        host.check_output("systemctl restart labfleet-firewall")
        assert "table inet somebody" in host.check_output("nft list tables")
        host.check_output("systemctl stop labfleet-firewall")
        assert host.check_output("nft list tables") == "table inet somebody"
    finally:
        host.check_output("systemctl start labfleet-firewall; nft delete table inet somebody")


def test_debian_s_unit_does_not_take_ours_away(host: Host) -> None:
    """It empties all tables when it starts, is loaded anew, and ends."""
    for verb in ("start", "restart", "reload", "stop"):
        host.check_output(f"systemctl {verb} nftables")
        assert "table inet labfleet" in host.check_output("nft list tables"), verb


def test_starts_with_the_machine(host: Host) -> None:
    assert host.service("labfleet-firewall").is_enabled
    assert host.check_output("systemctl --failed --plain --no-legend") == ""


def test_no_undo_is_left(host: Host) -> None:
    assert host.check_output("systemctl list-timers --all --no-legend 'labfleet-firewall*'") == ""
    assert host.check_output("find /etc/labfleet -name 'firewall.nft?*'") == ""
