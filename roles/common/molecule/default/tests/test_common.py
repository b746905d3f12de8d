"""A machine with the role's defaults."""

import pytest
from testinfra.host import Host


@pytest.mark.parametrize("package", ["ca-certificates", "procps", "tzdata"])
def test_packages(host: Host, package: str) -> None:
    assert host.package(package).is_installed


def test_machine_knows_its_own_name(host: Host) -> None:
    name = host.check_output("hostname")
    assert host.check_output(f"getent ahostsv4 {name}").split()[0] == "127.0.1.1"


@pytest.mark.parametrize(("path", "mode"), [("/etc/labfleet", 0o755), ("/etc/labfleet/credentials", 0o700)])
def test_directories(host: Host, path: str, mode: int) -> None:
    directory = host.file(path)
    assert (directory.user, directory.group, directory.mode) == ("root", "root", mode)


def test_journal_is_kept(host: Host) -> None:
    host.run_test("logger labfleet-was-here && journalctl --sync")
    assert host.file("/var/log/journal").is_directory
    assert "labfleet-was-here" in host.check_output("journalctl -n 50 --no-pager")


def test_journal_settings(host: Host) -> None:
    settings = host.check_output("systemd-analyze cat-config systemd/journald.conf")
    assert "SystemMaxUse=500M\nMaxRetentionSec=1month" in settings


def test_time_and_locale(host: Host) -> None:
    assert host.check_output("date +%Z") == "UTC"
    assert host.file("/etc/default/locale").content_string == "LANG=C.UTF-8\n"


def test_no_unit_has_failed(host: Host) -> None:
    assert host.check_output("systemctl --failed --plain --no-legend") == ""
