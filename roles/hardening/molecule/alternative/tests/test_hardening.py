"""A machine with every variable moved off its default."""

from testinfra.host import Host


def test_sshd(host: Host) -> None:
    effective = dict(line.split(" ", 1) for line in host.check_output("sshd -T").splitlines())
    assert effective["maxsessions"] == "20"
    assert effective["clientaliveinterval"] == "0"
    assert effective["passwordauthentication"] == "no"
    assert effective["kbdinteractiveauthentication"] == "no"


def test_sysctl(host: Host) -> None:
    assert host.file("/proc/sys/net/ipv4/conf/all/log_martians").content_string == "0\n"
    lines = host.file("/etc/sysctl.d/60-labfleet.conf").content_string.splitlines()
    assert [line for line in lines if line.startswith("-")] == [
        "-net.ipv4.conf.all.log_martians = 0",
        "-net.ipv4.no_such_setting = 1",
    ]


def test_core_dumps(host: Host) -> None:
    assert host.check_output("systemctl show --property=DefaultLimitCORE --value") != "0"


def test_updates(host: Host) -> None:
    settings = host.check_output("apt-config dump")
    assert 'Unattended-Upgrade::Package-Blacklist:: "^postgresql";' in settings
    assert 'Unattended-Upgrade::Package-Blacklist:: "rabbitmq-server";' in settings
    assert 'Unattended-Upgrade::Automatic-Reboot "true";' in settings
    assert 'Unattended-Upgrade::Automatic-Reboot-Time "03:30";' in settings


def test_blocked_modules(host: Host) -> None:
    lines = host.file("/etc/modprobe.d/labfleet.conf").content_string.splitlines()
    assert [line for line in lines if line.startswith("install")] == ["install sctp /bin/false"]
