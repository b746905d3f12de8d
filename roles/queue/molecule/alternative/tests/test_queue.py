"""The queue tier with every variable moved, from a release that lies elsewhere."""

import json
import tomllib
import uuid
from typing import Any

import pytest
from testinfra.host import Host

LOGINS = ["web:password-of-the-front-end-in-this-test", "other:password-of-another-front-end-in-this"]


@pytest.fixture
def address(host: Host) -> str:
    return str(host.check_output("hostname -I")).split()[0]


def ask(host: Host, where: str, path: str, *options: str, login: str = LOGINS[1]) -> tuple[int, Any]:
    """Status and JSON body of a request; the certificate must be the authority's."""
    said = host.check_output(
        f"curl -s --cacert /root/ca.crt -w '\\n%{{http_code}}' --user {login} {' '.join(options)}"
        f" https://{where}:9443{path}"
    )
    body, _, status = said.rpartition("\n")
    return int(status), json.loads(body)


def batch(*keys: str) -> str:
    """A request's body with one message for each key."""
    messages = [{"task": str(uuid.uuid4()), "attempt": 1, "key": key, "token": "la_x"} for key in keys]
    return f"--json '{json.dumps({'messages': messages})}'"


def test_settings(host: Host, address: str) -> None:
    assert tomllib.loads(host.file("/etc/labfleet/queue.toml").content_string) == {
        "runner": {
            "socket": "/run/labfleet-publisher/publisher.sock",
            "timeout_seconds": 20,
            "max_body_bytes": 65536,
            "max_batch": 1,
        },
        "publisher": {
            "socket": "/run/labfleet-publisher/publisher.sock",
            "keys": ["matlab", "r.large"],
            "workers": ["worker1", "worker2"],
            "delivery_limit": 5,
        },
        "broker": {"hosts": [address], "port": 5673, "vhost": "other", "user": "labfleet_publisher"},
        "log": {"level": "debug"},
    }


def test_units(host: Host, address: str) -> None:
    publisher = host.file("/etc/systemd/system/labfleet-publisher.service").content_string.splitlines()
    assert "ExecStart=/srv/labfleet/current/bin/labfleet publisher" in publisher
    assert "X-Labfleet-Release=a-release-of-the-test" in publisher
    assert f"IPAddressAllow=localhost {address}" in publisher
    runner = host.file("/etc/systemd/system/labfleet-runner.service").content_string
    assert "ExecStart=/usr/sbin/fcgiwrap -f -c 2 -p /usr/local/libexec/labfleet-runner\n" in runner


@pytest.mark.parametrize("login", LOGINS)
def test_each_front_end_has_its_own_password(host: Host, address: str, login: str) -> None:
    status, answer = ask(host, address, "/runner/v1/schedule", batch("r.large"), login=login)
    assert (status, answer["results"][0]["status"]) == (200, "confirmed")


def test_a_password_is_good_for_its_front_end_only(host: Host, address: str) -> None:
    crossed = f"web:{LOGINS[1].partition(':')[2]}"
    assert ask(host, address, "/runner/v1/schedule", batch("r.large"), login=crossed)[0] == 401


def test_keys_that_are_not_configured(host: Host, address: str) -> None:
    status, answer = ask(host, address, "/runner/v1/schedule", batch("python"))
    assert (status, answer["results"][0]["status"]) == (200, "unroutable")


def test_largest_batch(host: Host, address: str) -> None:
    assert ask(host, address, "/runner/v1/schedule", batch("matlab", "matlab"))[0] == 413


def test_largest_body(host: Host, address: str) -> None:
    host.check_output("head -c 65537 /dev/zero > /tmp/large")
    assert ask(host, address, "/runner/v1/check", "--data-binary @/tmp/large")[0] == 413


def test_a_network_that_is_not_listed(host: Host) -> None:
    status, answer = ask(host, "127.0.0.1", "/runner/v1/health")
    assert (status, answer["code"]) == (403, "forbidden")


def test_exact_sockets(host: Host, address: str) -> None:
    listeners = {line.split()[3] for line in host.check_output("ss -Hlnt").splitlines()}
    broker = {"127.0.0.1:4369", "127.0.0.1:5673", f"{address}:5673", "127.0.0.1:25672"}
    assert listeners == {"0.0.0.0:22", "[::]:22", "0.0.0.0:9443", *broker}
    assert host.check_output("ss -Hlnu") == ""


def test_site_where_nginx_reads_it(host: Host) -> None:
    read = host.check_output("nginx -T 2>/dev/null")
    assert "# configuration file /etc/nginx/other.d/queue.conf:" in read
    for line in (
        "server_name runner.example.org;",
        "client_max_body_size 65536;",
        "fastcgi_read_timeout 25s;",
    ):
        assert line in read
    assert not host.file("/etc/nginx/labfleet.d").exists


def test_queues_on_the_broker(host: Host) -> None:
    listed = host.check_output("rabbitmqctl --silent -p other list_queues name </dev/null").splitlines()
    queues = {line for line in listed if line.startswith("labfleet.")}
    of_workers = [f"{kind}.worker{number}" for kind in ("control", "worker") for number in (1, 2)]
    names = ("key.matlab", "key.r.large", *of_workers, "dead")
    assert queues == {f"labfleet.{name}" for name in names}


def test_no_unit_has_failed(host: Host) -> None:
    assert host.check_output("systemctl --failed --plain --no-legend") == ""


def test_publisher_counts_where_another_user_may_read(host: Host) -> None:
    folder = "/run/labfleet-metrics-publisher"
    assert host.run(f"runuser -u nobody -- grep -aq labfleet_ {folder}/gauge_livesum_0.db {folder}/counter_0.db").rc == 0
    assert host.file(folder).user == host.check_output("systemctl show -P User labfleet-publisher.service")
