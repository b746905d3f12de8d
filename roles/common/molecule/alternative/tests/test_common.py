"""A machine with every variable moved off its default."""

from testinfra.host import Host


def test_extra_package(host: Host) -> None:
    assert host.package("jq").is_installed


def test_site_authority_is_trusted(host: Host) -> None:
    own = "/usr/local/share/ca-certificates/site-ca.crt"
    assert host.file(own).mode == 0o644
    assert host.file("/etc/ssl/certs/site-ca.pem").linked_to == own


def test_names_resolve(host: Host) -> None:
    assert host.check_output("getent hosts broker").split() == ["192.0.2.7", "broker.lab.test", "broker"]


def test_time_and_locale(host: Host) -> None:
    assert host.file("/etc/localtime").linked_to == "/usr/share/zoneinfo/Europe/Stockholm"
    assert host.file("/etc/default/locale").content_string == "LANG=C\n"


def test_journal_settings(host: Host) -> None:
    settings = host.check_output("systemd-analyze cat-config systemd/journald.conf")
    assert "SystemMaxUse=64M\nMaxRetentionSec=1week" in settings
