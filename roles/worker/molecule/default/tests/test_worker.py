"""A worker with its defaults: hardened itself, able to start units and sandboxes as its own user."""

import json
from typing import Any

import pytest
from testinfra.host import Host

SECRETS = ("worker-password-of-the-test", "lw_token-of-the-worker-in-this-test")
AS_WORKER = "setpriv --reuid labfleet-worker --regid labfleet-worker --clear-groups --"
SANDBOX = (
    "bwrap --unshare-all --die-with-parent --ro-bind /usr /usr --symlink usr/lib /lib"
    " --symlink usr/lib64 /lib64 --proc /proc --dev /dev --"
)
UNIT = """
[Unit]
Description=Labfleet: worker
After=network-online.target rabbitmq-server.service user@{uid}.service
Wants=network-online.target user@{uid}.service
[Service]
Type=exec
User=labfleet-worker
Group=labfleet-worker
Environment=LABFLEET_CONFIG=/etc/labfleet/worker.toml
Environment=XDG_RUNTIME_DIR=/run/user/{uid}
Environment=HOME=/var/lib/labfleet-worker
Environment=PYTHONDONTWRITEBYTECODE=1
LoadCredential=broker_password:/etc/labfleet/credentials/worker/broker_password
LoadCredential=worker_token:/etc/labfleet/credentials/worker/worker_token
ExecStart=/opt/labfleet/current/bin/celery -A labfleet.worker.app worker --hostname {name}
WorkingDirectory=/var/lib/labfleet-worker
KillMode=mixed
TimeoutStopSec=30
Restart=always
RestartSec=2
ReadWritePaths=/var/lib/labfleet-worker
InaccessiblePaths=-/home -/root
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
KeyringMode=private
LockPersonality=yes
MemoryDenyWriteExecute=yes
PrivateDevices=yes
PrivateMounts=yes
PrivateTmp=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
ProtectSystem=strict
RemoveIPC=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallErrorNumber=EPERM
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
UMask=0077
IPAddressDeny=any
IPAddressAllow=localhost 127.0.0.1
[Install]
WantedBy=multi-user.target
"""


@pytest.fixture
def uid(host: Host) -> int:
    return int(host.user("labfleet-worker").uid)


@pytest.fixture
def process(host: Host) -> str:
    return str(host.check_output("systemctl show labfleet-worker --property=MainPID --value"))


def test_runs_and_has_never_fallen_over(host: Host) -> None:
    assert host.service("labfleet-worker").is_running
    assert host.service("labfleet-worker").is_enabled
    assert host.check_output("systemctl show labfleet-worker --property=NRestarts --value") == "0"


def test_unit_text(host: Host, uid: int) -> None:
    written = host.file("/etc/systemd/system/labfleet-worker.service").content_string.splitlines()
    text = [line for line in written if line and not line.startswith(("#", "X-Labfleet-"))]
    assert text == UNIT.format(uid=uid, name=host.check_output("hostname")).split("\n")[1:-1]


def test_attempts_weigh_less_than_services(host: Host) -> None:
    shown = host.check_output("systemctl show user.slice --property=CPUWeight,IOWeight --value")
    assert set(shown.split()) == {"10"}


def test_hardening(host: Host) -> None:
    verdict = host.check_output("systemd-analyze security --no-pager labfleet-worker.service | tail -n 1")
    assert float(verdict.split(":")[1].split()[0]) <= 5.0, verdict


@pytest.mark.parametrize("name", ["worker", "attempt"])
def test_profiles_can_be_loaded_and_only_complain(host: Host, name: str) -> None:
    """By AppArmor's parser; the kernel of these machines has none of it, so the unit names none."""
    path = f"/etc/apparmor.d/labfleet-{name}"
    assert (host.file(path).user, host.file(path).mode) == ("root", 0o644)
    host.check_output(f"apparmor_parser --skip-kernel-load --skip-cache {path}")
    names = host.check_output(f"apparmor_parser --names {path}").split()
    assert names == {"worker": ["labfleet-worker"], "attempt": ["labfleet-attempt", "labfleet-attempt-program"]}[name]
    heads = [line for line in host.file(path).content_string.splitlines() if line.startswith("profile ")]
    assert len(heads) == len(names)
    assert all("complain" in line for line in heads)


def test_a_profile_that_somebody_else_has_for_bubblewrap_is_found(host: Host) -> None:
    """As the role looks for it: the kernel would take neither."""
    words = "grep --recursive --files-with-matches --extended-regexp '^[^#]*/usr/bin/bwrap[ {]' /etc/apparmor.d"
    assert host.check_output(words) == "/etc/apparmor.d/labfleet-attempt"


def test_reads_its_queues_and_no_others(host: Host) -> None:
    consumers = host.check_output("rabbitmqctl --silent -p labfleet list_consumers queue_name </dev/null")
    name = host.check_output("hostname")
    queues = {line for line in consumers.splitlines() if line.startswith("labfleet.")}
    keys = {"labfleet.key.python", "labfleet.key.r"}
    assert queues == {*keys, f"labfleet.worker.{name}", f"labfleet.control.{name}"}


def test_is_the_only_one_at_the_broker_with_a_login_that_only_reads(host: Host) -> None:
    users = host.check_output("rabbitmqctl --silent list_connections user </dev/null")
    assert set(users.split()) - {"user"} == {"labfleet_worker"}
    rights = host.check_output("rabbitmqctl --silent list_user_permissions labfleet_worker </dev/null")
    assert rights.splitlines()[-1].split("\t") == ["labfleet", "^$", "^$", r"^labfleet\..*"]


def test_account(host: Host) -> None:
    user = host.user("labfleet-worker")
    assert (user.home, user.shell) == ("/var/lib/labfleet-worker", "/usr/sbin/nologin")
    assert user.groups == ["labfleet-worker"]


def test_the_user_s_systemd_lingers(host: Host, uid: int) -> None:
    assert host.check_output("loginctl show-user labfleet-worker --property=Linger --value") == "yes"
    assert host.service(f"user@{uid}").is_running


def test_it_can_start_units_with_a_sandbox(host: Host, uid: int) -> None:
    """In a sandbox there is neither the machine's network nor a file of the worker."""
    # The session that ssh has opened names root's bus, which is not the worker's.
    own = f"--unset=DBUS_SESSION_BUS_ADDRESS XDG_RUNTIME_DIR=/run/user/{uid}"
    unit = f"{AS_WORKER} env {own} systemd-run --user --quiet --wait --pipe --"
    assert host.check_output(f"{unit} {SANDBOX} /usr/bin/cat /proc/net/route").count("\n") == 0
    seen = host.check_output(f"{unit} {SANDBOX} /usr/bin/ls /")
    assert seen.split() == ["dev", "lib", "lib64", "proc", "usr"]


def attempts(host: Host, scenario: str) -> Any:
    """What `shared/attempts.py` found out on the machine, as the worker's user."""
    python = "/opt/labfleet/current/bin/python -B /opt/labfleet-try/attempts.py"
    return json.loads(host.check_output(f"{AS_WORKER} {python} {scenario}").splitlines()[-1])


def test_its_nursery_runs_beside_it(host: Host, uid: int, process: str) -> None:
    systemctl = f"{AS_WORKER} env XDG_RUNTIME_DIR=/run/user/{uid} systemctl --user"
    shown = host.check_output(f"{systemctl} show labfleet-nursery --property=ActiveState,MainPID --value")
    state, nursery = sorted(shown.split(), reverse=True)
    assert state == "active"
    (word,) = host.check_output(f"ps -o args= -p {nursery}").split()[-3:-2]
    assert word == "labfleet.worker.nursery"
    assert "labfleet-worker.service" not in host.file(f"/proc/{nursery}/cgroup").content_string
    assert "labfleet-worker.service" in host.file(f"/proc/{process}/cgroup").content_string


def test_its_nursery_hears_nobody_else(host: Host, uid: int) -> None:
    ask = (
        "import socket; s = socket.socket(socket.AF_UNIX); "
        f"s.connect('/run/user/{uid}/labfleet-nursery.sock'); print(s.recv(1000).decode())"
    )
    assert "user 0 has no business here" in host.check_output(f'python3 -c "{ask}"')
    stranger = "setpriv --reuid nobody --regid nogroup --clear-groups --"
    assert host.run(f'{stranger} python3 -c "{ask}"').rc == 1


def test_an_attempt_begins_in_a_scope_of_its_own(host: Host) -> None:
    assert attempts(host, "begins_in_a_scope_of_its_own") == {
        "group": True,
        "nursery": "labfleet-try.service",
        "bounds": {
            "MemoryMax": (512 + 256) * 1024**2,
            "MemorySwapMax": 0,
            "TasksMax": 82,
            "CPUQuotaPerSecUSec": 1_000_000,
        },
        "no_new_privileges": "1",
        "umask": "0077",
        "oom_score": "500",
        "session": True,
        "outcome": "success",
    }


def test_attempts_survive_their_nursery(host: Host) -> None:
    found = attempts(host, "survives_the_nursery")
    assert found == {"running": True, "outcome": "success", "next": "success"}


def test_without_a_nursery_attempts_begin_as_services(host: Host) -> None:
    assert attempts(host, "begins_without_a_nursery") == {"group": True, "outcome": "success"}


def test_an_attempt_is_stopped_gently_in_either_kind_of_unit(host: Host) -> None:
    gently = ["stopped", True]
    assert attempts(host, "is_stopped_gently") == {"True": gently, "False": gently}


def test_a_killed_shepherd_is_a_system_failure_with_its_reason(host: Host) -> None:
    for outcome, failure, message in attempts(host, "tells_of_a_shepherd_that_was_killed").values():
        assert (outcome, failure) == ("failed", "system")
        assert "signal" in message


def test_an_attempt_is_measured_and_its_protocol_remembered(host: Host) -> None:
    found = attempts(host, "measures_and_remembers")
    assert 0.5 <= found["usage"]["cpu_seconds"] < 10
    assert found["environment"] == {"os": "try"}
    assert found["fetches"] == 0


def test_exact_sockets(host: Host) -> None:
    listeners = {line.split()[3] for line in host.check_output("ss -Hlnt").splitlines()}
    broker = {f"127.0.0.1:{port}" for port in (4369, 5672, 25672)}
    assert listeners == {"0.0.0.0:22", "[::]:22", *broker}
    assert host.check_output("ss -Hlnu") == ""
    assert "celery" not in host.check_output("ss -Hlxp")


@pytest.mark.parametrize(
    ("path", "user", "mode"),
    [
        ("/etc/labfleet/worker.toml", "root", 0o644),
        ("/etc/labfleet/credentials/worker", "root", 0o700),
        ("/etc/labfleet/credentials/worker/broker_password", "root", 0o600),
        ("/etc/labfleet/credentials/worker/worker_token", "root", 0o600),
        ("/etc/labfleet/tls/front-end-web.crt", "root", 0o644),
        ("/etc/systemd/system/labfleet-worker.service", "root", 0o644),
        ("/var/lib/labfleet-worker", "labfleet-worker", 0o700),
    ],
)
def test_modes(host: Host, path: str, user: str, mode: int) -> None:
    file = host.file(path)
    assert (file.user, file.group, file.mode) == (user, user, mode)


@pytest.mark.parametrize("name", ["broker_password", "worker_token"])
def test_credentials_are_the_service_s_alone(host: Host, name: str) -> None:
    """systemd's copy, too, is nobody else's."""
    copy = f"/run/credentials/labfleet-worker.service/{name}"
    assert host.run(f"setpriv --reuid nobody --regid nogroup --clear-groups -- cat {copy}").rc == 1
    assert host.file(copy).mode & 0o007 == 0


@pytest.mark.parametrize("secret", SECRETS)
def test_no_secret_lies_about(host: Host, secret: str, process: str) -> None:
    assert host.run(f"{AS_WORKER} grep -rlsF -e {secret} /etc /var/lib /tmp").stdout == ""
    assert host.run(f"grep -rlsF -e {secret} /etc --exclude-dir=credentials").stdout == ""
    assert secret not in host.check_output(
        f"cat /proc/{process}/cmdline /proc/{process}/environ | tr '\\0' ' '"
    )
    assert secret not in host.check_output("journalctl --no-pager")


def test_packages(host: Host) -> None:
    assert host.package("bubblewrap").is_installed
    assert host.package("dbus-user-session").is_installed
    assert not host.package("r-base-core").is_installed


def test_no_unit_has_failed(host: Host) -> None:
    assert host.check_output("systemctl --failed --plain --no-legend") == ""
