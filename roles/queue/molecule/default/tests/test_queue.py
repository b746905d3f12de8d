"""The queue tier with its defaults: one door, for those with a password, and a broker behind it."""

import json
import uuid
from typing import Any

import pytest
from testinfra.host import Host

DOOR = "https://127.0.0.1:8443"
PASSWORD = "password-of-the-front-end-in-this-test"
BROKER_PASSWORD = "publisher-password-of-the-test"
TOKEN = "la_" + "x" * 60
# As a worker would: its login, the oldest message.
TAKE = """
import json, kombu
url = "amqp://labfleet_worker:worker-password-of-the-test@127.0.0.1/labfleet"
with kombu.Connection(url) as connection:
    message = connection.channel().basic_get("labfleet.key.r", no_ack=True)
    print(json.dumps([message.properties["correlation_id"], json.loads(message.body)]))
"""
HARDENING = """
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
KeyringMode=private
LockPersonality=yes
MemoryDenyWriteExecute=yes
PrivateDevices=yes
PrivateMounts=yes
PrivateTmp=yes
ProcSubset=pid
ProtectClock=yes
ProtectControlGroups=yes
ProtectHome=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
ProtectSystem=strict
RemoveIPC=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallErrorNumber=EPERM
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
UMask=0027
[Install]
WantedBy=multi-user.target
"""
UNITS = {
    "labfleet-publisher.service": """
[Unit]
Description=Labfleet: publisher
After=network-online.target rabbitmq-server.service
Wants=network-online.target
[Service]
Type=notify
NotifyAccess=main
User=labfleet-publisher
Group=labfleet-runner
RuntimeDirectory=labfleet-publisher
RuntimeDirectoryMode=0750
Environment=LABFLEET_CONFIG=/etc/labfleet/queue.toml
Environment=PYTHONDONTWRITEBYTECODE=1
LoadCredential=broker_password:/etc/labfleet/credentials/publisher/broker_password
ExecStart=/opt/labfleet/current/bin/labfleet publisher
TimeoutStopSec=30
WatchdogSec=120
Restart=always
RestartSec=1
PrivateUsers=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
IPAddressDeny=any
IPAddressAllow=localhost 127.0.0.1"""
    + HARDENING,
    "labfleet-runner.service": """
[Unit]
Description=Labfleet: CGI runner
Requires=labfleet-runner.socket
After=labfleet-runner.socket
[Service]
User=labfleet-runner
Group=labfleet-runner
LoadCredential=front_ends:/etc/labfleet/credentials/runner/front_ends
ExecStart=/usr/sbin/fcgiwrap -f -c 4 -p /usr/local/libexec/labfleet-runner
Restart=always
RestartSec=1
PrivateNetwork=yes
PrivateUsers=yes
RestrictAddressFamilies=AF_UNIX
IPAddressDeny=any"""
    + HARDENING,
    "labfleet-runner.socket": """
[Unit]
Description=Labfleet: socket of the CGI runner
[Socket]
ListenStream=/run/labfleet-runner/fcgi.sock
SocketUser=root
SocketGroup=www-data
SocketMode=0660
DirectoryMode=0755
Backlog=512
[Install]
WantedBy=sockets.target
""",
}


def ask(host: Host, path: str, *options: str, login: str = f"web:{PASSWORD}") -> tuple[int, Any]:
    """Status and JSON body of a request; the certificate must be the authority's."""
    user = f"--user {login}" if login else ""
    said = host.check_output(
        f"curl -s --cacert /root/ca.crt {user} -w '\\n%{{http_code}}' {' '.join(options)} {DOOR}{path}"
    )
    body, _, status = said.rpartition("\n")
    return int(status), json.loads(body)


def batch(*keys: str, task: str = "") -> str:
    """A request's body with one message for each key."""
    messages = [{"task": task or str(uuid.uuid4()), "attempt": 1, "key": key, "token": TOKEN} for key in keys]
    return f"--json '{json.dumps({'messages': messages})}'"


@pytest.mark.parametrize("unit", UNITS)
def test_units(host: Host, unit: str) -> None:
    assert host.service(unit).is_running
    assert host.service(unit).is_enabled
    written = host.file(f"/etc/systemd/system/{unit}").content_string.splitlines()
    text = [line for line in written if line and not line.startswith(("#", "X-Labfleet-"))]
    assert text == UNITS[unit].split("\n")[1:-1]


@pytest.mark.parametrize("unit", ["fcgiwrap.service", "fcgiwrap.socket"])
def test_debian_s_fcgiwrap_is_off(host: Host, unit: str) -> None:
    assert host.service(unit).is_masked
    assert not host.service(unit).is_running


@pytest.mark.parametrize(("unit", "most"), [("labfleet-publisher", 2.0), ("labfleet-runner", 3.0)])
def test_hardening(host: Host, unit: str, most: float) -> None:
    verdict = host.check_output(f"systemd-analyze security --no-pager {unit}.service | tail -n 1")
    assert float(verdict.split(":")[1].split()[0]) <= most, verdict


def test_exact_sockets(host: Host) -> None:
    listeners = {line.split()[3] for line in host.check_output("ss -Hlnt").splitlines()}
    own = {f"127.0.0.1:{port}" for port in (4369, 5672, 8443, 25672)}
    assert listeners == {"0.0.0.0:22", "[::]:22", *own}
    assert host.check_output("ss -Hlnu") == ""
    sockets = {line.split()[4] for line in host.check_output("ss -Hlx").splitlines()}
    assert {path for path in sockets if "labfleet" in path or "fcgi" in path} == {
        "/run/labfleet-publisher/publisher.sock",
        "/run/labfleet-runner/fcgi.sock",
    }


@pytest.mark.parametrize("user", ["labfleet-runner", "labfleet-publisher"])
def test_accounts(host: Host, user: str) -> None:
    account = host.user(user)
    assert (account.home, account.shell, account.groups) == ("/nonexistent", "/usr/sbin/nologin", [user])


@pytest.mark.parametrize(
    ("path", "user", "group", "mode"),
    [
        ("/etc/labfleet/queue.toml", "root", "root", 0o644),
        ("/etc/labfleet/credentials/runner", "root", "root", 0o700),
        ("/etc/labfleet/credentials/runner/front_ends", "root", "root", 0o600),
        ("/etc/labfleet/credentials/publisher", "root", "root", 0o700),
        ("/etc/labfleet/credentials/publisher/broker_password", "root", "root", 0o600),
        ("/etc/labfleet/tls/queue.crt", "root", "root", 0o644),
        ("/etc/labfleet/tls/queue.key", "root", "root", 0o600),
        ("/etc/nginx/labfleet.d/queue.conf", "root", "root", 0o644),
        ("/usr/local/libexec/labfleet-runner", "root", "root", 0o755),
        ("/run/labfleet-runner/fcgi.sock", "root", "www-data", 0o660),
        ("/run/labfleet-publisher", "labfleet-publisher", "labfleet-runner", 0o750),
        ("/run/labfleet-publisher/publisher.sock", "labfleet-publisher", "labfleet-runner", 0o660),
    ],
)
def test_modes(host: Host, path: str, user: str, group: str, mode: int) -> None:
    file = host.file(path)
    assert (file.user, file.group, file.mode) == (user, group, mode)


def test_publisher_has_declared_its_queues(host: Host) -> None:
    listed = host.check_output("rabbitmqctl --silent -p labfleet list_queues name type </dev/null")
    queues = dict(line.split() for line in listed.splitlines() if line.startswith("labfleet."))
    assert queues == {
        "labfleet.key.python": "quorum",
        "labfleet.key.r": "quorum",
        "labfleet.worker.worker1": "quorum",
        "labfleet.control.worker1": "classic",
        "labfleet.dead": "quorum",
    }


def test_health(host: Host) -> None:
    assert ask(host, "/runner/v1/health", login="") == (200, {"status": "ok"})


def test_a_message_reaches_its_queue(host: Host) -> None:
    """Confirmed means: a worker gets it, stamped with the front end that signed in."""
    host.check_output("rabbitmqctl --silent -p labfleet purge_queue labfleet.key.r </dev/null")
    task = str(uuid.uuid4())
    status, answer = ask(host, "/runner/v1/schedule", batch("r", task=task))
    assert (status, answer) == (200, {"results": [{"task": task, "attempt": 1, "status": "confirmed"}]})
    name, body = json.loads(host.check_output("/opt/labfleet/current/bin/python -c %s", TAKE))
    assert name == f"{task}.1"
    assert body[1] == {"front_end": "web", "task": task, "attempt": 1, "key": "r", "token": TOKEN}


def test_unroutable_is_said(host: Host) -> None:
    status, answer = ask(host, "/runner/v1/schedule", batch("python", "nobody"))
    assert status == 200
    assert [result["status"] for result in answer["results"]] == ["confirmed", "unroutable"]


@pytest.mark.parametrize("login", ["", f"web:{'x' * 40}", f"stranger:{PASSWORD}"])
def test_without_a_password_nobody_is_heard(host: Host, login: str) -> None:
    for verb in ("schedule", "cancel", "interface", "check"):
        status, answer = ask(host, f"/runner/v1/{verb}", batch("python"), login=login)
        assert (status, answer["code"]) == (401, "unauthorized")


def test_too_large(host: Host) -> None:
    host.check_output("head -c 17000000 /dev/zero > /tmp/large")
    status, answer = ask(host, "/runner/v1/check", "--data-binary @/tmp/large")
    assert (status, answer["status"]) == (413, 413)


def test_nothing_else_is_there(host: Host) -> None:
    status, answer = ask(host, "/cgi-bin/test")
    assert (status, answer["code"]) == (404, "not_found")


def test_no_plain_http(host: Host) -> None:
    asked = "curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:8443/runner/v1/health"
    assert host.check_output(asked) == "400"


@pytest.mark.parametrize("secret", [PASSWORD, BROKER_PASSWORD])
def test_no_secret_lies_about(host: Host, secret: str) -> None:
    """Of a front end's password only the hash is there at all."""
    kept = host.run(f"grep -rlsF -e {secret} /etc /var/log /var/lib/rabbitmq /run/labfleet-*").stdout.split()
    assert kept == (
        ["/etc/labfleet/credentials/publisher/broker_password"] if secret == BROKER_PASSWORD else []
    )
    assert secret not in host.check_output("journalctl --no-pager")
    pid = host.check_output("systemctl show labfleet-publisher --property=MainPID --value")
    assert secret not in host.check_output(f"cat /proc/{pid}/cmdline /proc/{pid}/environ | tr '\\0' ' '")


def test_no_unit_has_failed(host: Host) -> None:
    assert host.check_output("systemctl --failed --plain --no-legend") == ""
