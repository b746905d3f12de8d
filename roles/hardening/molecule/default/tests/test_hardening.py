"""A machine with the role's defaults."""

import pytest
from testinfra.host import Host

SSH = {"permitrootlogin": "without-password", "permitemptypasswords": "no", "x11forwarding": "no", "maxauthtries": "3"}


def test_sshd(host: Host) -> None:
    effective = dict(line.split(" ", 1) for line in host.check_output("sshd -T").splitlines())
    assert {name: effective[name] for name in SSH} == SSH
    # Nobody who comes in by password is locked out by default.
    assert effective["passwordauthentication"] == "yes"


def test_sshd_has_read_it(host: Host) -> None:
    assert host.service("ssh").is_running
    assert "Reloaded ssh.service" in host.check_output("journalctl --no-pager -u ssh")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("net.ipv4.conf.all.accept_redirects", 0),
        ("net.ipv4.conf.all.log_martians", 1),
        ("net.ipv4.conf.default.rp_filter", 1),
        ("net.ipv6.conf.default.accept_redirects", 0),
    ],
)
def test_network_of_the_kernel(host: Host, name: str, value: int) -> None:
    assert int(host.file(f"/proc/sys/{name.replace('.', '/')}").content_string) == value


def test_the_kernel_of_the_host_is_left_alone(host: Host) -> None:
    """These machines are containers; what is no network setting would change the computer that they are on."""
    assert "kernel." not in host.file("/etc/sysctl.d/60-labfleet.conf").content_string


def test_no_core_dumps(host: Host) -> None:
    assert host.check_output("systemctl show --property=DefaultLimitCORE --value") == "0"
    assert "* hard core 0" in host.file("/etc/security/limits.d/60-labfleet-core.conf").content_string


def test_security_updates(host: Host) -> None:
    settings = host.check_output("apt-config dump")
    assert 'APT::Periodic::Unattended-Upgrade "1";' in settings
    origins = [line for line in settings.splitlines() if line.startswith("Unattended-Upgrade::Origins-Pattern:: ")]
    assert len(origins) == 1
    assert "label=Debian-Security" in origins[0]
    assert 'Unattended-Upgrade::Automatic-Reboot "false";' in settings
    assert host.service("apt-daily-upgrade.timer").is_enabled


def test_what_it_would_update(host: Host) -> None:
    """The tool itself takes the settings."""
    said = host.check_output("unattended-upgrade --dry-run --debug 2>&1 || true")
    assert "label=Debian-Security" in said
    assert "Traceback" not in said


def test_blocked_modules(host: Host) -> None:
    assert "install sctp /bin/false\n" in host.file("/etc/modprobe.d/labfleet.conf").content_string


def test_no_unit_has_failed(host: Host) -> None:
    assert host.check_output("systemctl --failed --plain --no-legend") == ""
