"""Without a wish nothing is there."""

from __future__ import annotations

from testinfra.host import Host


def test_nothing_is_installed_and_nothing_listens(host: Host) -> None:
    for package in ("prometheus", "prometheus-node-exporter", "prometheus-postgres-exporter"):
        assert not host.package(package).is_installed
    assert not host.file("/etc/systemd/system/labfleet-metrics.service").exists
    assert not [socket for socket in host.socket.get_listening_sockets() if ":9" in socket]
