"""A worker with its defaults: hardened itself, able to start units and sandboxes as its own user."""

import pytest
from testinfra.host import Host

SECRETS = ("worker-password-of-the-test", "lw_token-of-the-worker-in-this-test")
SANDBOX = "bwrap --unshare-all --ro-bind /usr /usr --symlink usr/lib /lib --symlink usr/lib64 /lib64 --proc /proc --dev /dev"


def as_worker(host: Host, command: str) -> str:
    """Output of a command as the worker's user, whose systemd is found by XDG_RUNTIME_DIR."""
    uid = host.user("labfleet-worker").uid
    user = "setpriv --reuid labfleet-worker --regid labfleet-worker --clear-groups --"
    return host.check_output(f"{user} env XDG_RUNTIME_DIR=/run/user/{uid} {command}")


def test_unit(host: Host) -> None:
    assert host.service("labfleet-worker").is_running
    assert host.service("labfleet-worker").is_enabled
    assert host.check_output("systemctl show labfleet-worker --property=NRestarts --value") == "0"


def test_connected_to_the_broker(host: Host) -> None:
    connected = host.check_output("rabbitmqctl -q list_connections user state")
    assert "labfleet_worker" in connected


def test_the_user_s_systemd_lingers(host: Host) -> None:
    uid = host.user("labfleet-worker").uid
    assert host.service(f"user@{uid}").is_running
    assert host.file("/var/lib/systemd/linger/labfleet-worker").exists


def test_it_can_start_units_with_a_sandbox(host: Host) -> None:
    said = as_worker(host, f"systemd-run --user --quiet --wait --pipe -- {SANDBOX} -- /usr/bin/echo inside")
    assert said == "inside"


def test_hardening(host: Host) -> None:
    verdict = host.check_output("systemd-analyze security --no-pager labfleet-worker.service | tail -n 1")
    assert float(verdict.split(":")[1].split()[0]) <= 5.0, verdict


def test_listens_nowhere(host: Host) -> None:
    lines = host.check_output("ss -Hltnup").splitlines()
    assert not [line for line in lines if "celery" in line or "python" in line]


@pytest.mark.parametrize(
    ("path", "user", "mode"),
    [
        ("/etc/labfleet/worker.toml", "root", 0o644),
        ("/etc/labfleet/credentials/worker", "root", 0o700),
        ("/etc/labfleet/credentials/worker/broker_password", "root", 0o600),
        ("/etc/labfleet/credentials/worker/worker_token", "root", 0o600),
        ("/etc/labfleet/tls/front-end-web.crt", "root", 0o644),
        ("/var/lib/labfleet-worker", "labfleet-worker", 0o700),
    ],
)
def test_modes(host: Host, path: str, user: str, mode: int) -> None:
    file = host.file(path)
    assert (file.user, file.group, file.mode) == (user, user, mode)


@pytest.mark.parametrize("secret", SECRETS)
def test_its_user_can_t_read_secrets(host: Host, secret: str) -> None:
    found = host.run(f"setpriv --reuid labfleet-worker --regid labfleet-worker --clear-groups -- grep -rlsF -e {secret} /etc")
    assert found.stdout == ""
    pid = host.check_output("systemctl show labfleet-worker --property=MainPID --value")
    assert secret not in host.check_output(f"tr '\\0' ' ' < /proc/{pid}/cmdline; tr '\\0' ' ' < /proc/{pid}/environ")


@pytest.mark.parametrize("package", ["r-base-core", "r-bioc-multtest", "r-cran-igraph", "bubblewrap"])
def test_packages(host: Host, package: str) -> None:
    assert host.package(package).is_installed
