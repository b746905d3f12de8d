"""The queue tier with its defaults: one door, for those with a password, and a broker behind it."""

import json
import uuid

import pytest
from testinfra.host import Host

DOOR = "https://127.0.0.1:8443"
PASSWORD = "password-of-the-front-end-in-this-test"


def ask(host: Host, path: str, *options: str, password: str = PASSWORD) -> tuple[int, dict[str, object]]:
    """Status and JSON body of a request."""
    login = f"--user web:{password}" if password else ""
    said = host.check_output(f"curl -sk {login} -w '\\n%{{http_code}}' {' '.join(options)} {DOOR}{path}")
    body, _, status = said.rpartition("\n")
    return int(status), json.loads(body)


def message(key: str) -> str:
    body = {"messages": [{"task": str(uuid.uuid4()), "attempt": 1, "key": key, "token": "la_" + "x" * 60}]}
    return f"-H 'Content-Type: application/json' --data '{json.dumps(body)}'"


@pytest.mark.parametrize("unit", ["labfleet-publisher.service", "labfleet-runner.service", "labfleet-runner.socket"])
def test_units(host: Host, unit: str) -> None:
    assert host.service(unit).is_running
    assert host.service(unit).is_enabled


@pytest.mark.parametrize("unit", ["fcgiwrap.service", "fcgiwrap.socket"])
def test_debian_s_fcgiwrap_is_off(host: Host, unit: str) -> None:
    assert host.service(unit).is_masked
    assert not host.service(unit).is_running


def test_exact_sockets(host: Host) -> None:
    lines = host.check_output("ss -Hltnp").splitlines()
    nginx = {line.split()[3] for line in lines if "nginx" in line}
    assert nginx == {"127.0.0.1:8443"}
    assert not [line for line in lines if "python" in line or "fcgiwrap" in line]


@pytest.mark.parametrize(
    ("path", "user", "group", "mode"),
    [
        ("/etc/labfleet/queue.toml", "root", "root", 0o644),
        ("/etc/labfleet/credentials/runner", "root", "root", 0o700),
        ("/etc/labfleet/credentials/runner/front_ends", "root", "root", 0o600),
        ("/etc/labfleet/credentials/publisher/broker_password", "root", "root", 0o600),
        ("/etc/labfleet/tls/queue.key", "root", "root", 0o600),
        ("/etc/nginx/labfleet.d/queue.conf", "root", "root", 0o644),
        ("/run/labfleet-runner/fcgi.sock", "root", "www-data", 0o660),
        ("/run/labfleet-publisher", "labfleet-publisher", "labfleet-runner", 0o750),
        ("/run/labfleet-publisher/publisher.sock", "labfleet-publisher", "labfleet-runner", 0o660),
    ],
)
def test_modes(host: Host, path: str, user: str, group: str, mode: int) -> None:
    file = host.file(path)
    assert (file.user, file.group, file.mode) == (user, group, mode)


@pytest.mark.parametrize(("unit", "most"), [("labfleet-publisher", 2.0), ("labfleet-runner", 3.0)])
def test_hardening(host: Host, unit: str, most: float) -> None:
    verdict = host.check_output(f"systemd-analyze security --no-pager {unit}.service | tail -n 1")
    assert float(verdict.split(":")[1].split()[0]) <= most, verdict


def test_health(host: Host) -> None:
    assert ask(host, "/runner/v1/health", password="")[0] == 200


def test_confirmed_by_the_broker(host: Host) -> None:
    status, answer = ask(host, "/runner/v1/schedule", message("python"))
    assert (status, answer["results"][0]["status"]) == (200, "confirmed")  # type: ignore[index]
    queued = host.check_output("rabbitmqctl -q -p labfleet list_queues name messages")
    assert "labfleet.key.python" in queued


def test_unroutable_is_said(host: Host) -> None:
    status, answer = ask(host, "/runner/v1/schedule", message("nobody"))
    assert (status, answer["results"][0]["status"]) == (200, "unroutable")  # type: ignore[index]


def test_wrong_password(host: Host) -> None:
    status, answer = ask(host, "/runner/v1/schedule", message("python"), password="x" * 40)
    assert (status, answer["status"]) == (401, 401)


def test_too_large(host: Host) -> None:
    host.check_output("head -c 17000000 /dev/zero > /tmp/large")
    status, answer = ask(host, "/runner/v1/check", "--data-binary @/tmp/large")
    assert (status, answer["status"]) == (413, 413)


def test_nothing_else_is_there(host: Host) -> None:
    status, answer = ask(host, "/cgi-bin/test")
    assert (status, answer["code"]) == (404, "not_found")


def test_no_plain_http(host: Host) -> None:
    assert host.check_output("curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:8443/runner/v1/health") == "400"


def test_no_secret_in_a_world_readable_file(host: Host) -> None:
    found = host.run("grep -rlF -e publisher-password-of-the-test /etc --exclude-dir=credentials --exclude-dir=rabbitmq")
    assert found.stdout == ""
