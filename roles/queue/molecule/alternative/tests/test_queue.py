"""The queue tier with every variable moved."""

import json
import tomllib
import uuid

import pytest
from testinfra.host import Host

OTHER = "other:password-of-another-front-end-in-this"


@pytest.fixture
def address(host: Host) -> str:
    return host.check_output("hostname -I").split()[0]


def ask(host: Host, where: str, path: str, *options: str) -> tuple[int, dict[str, object]]:
    """Status and JSON body of a request."""
    said = host.check_output(
        f"curl -sk -w '\\n%{{http_code}}' --user {OTHER} {' '.join(options)} https://{where}:9443{path}"
    )
    body, _, status = said.rpartition("\n")
    return int(status), json.loads(body)


def batch(*keys: str) -> str:
    messages = [{"task": str(uuid.uuid4()), "attempt": 1, "key": key, "token": "la_" + "x" * 60} for key in keys]
    return f"-H 'Content-Type: application/json' --data '{json.dumps({'messages': messages})}'"


def test_settings(host: Host) -> None:
    told = tomllib.loads(host.file("/etc/labfleet/queue.toml").content_string)
    assert told["runner"]["max_batch"] == 1
    assert told["publisher"]["delivery_limit"] == 5
    assert told["publisher"]["workers"] == ["worker1", "worker2"]
    assert told["log"] == {"level": "debug"}


def test_another_front_end_on_another_port(host: Host, address: str) -> None:
    status, answer = ask(host, address, "/runner/v1/schedule", batch("r.large"))
    assert (status, answer["results"][0]["status"]) == (200, "confirmed")  # type: ignore[index]


def test_keys_that_are_not_configured(host: Host, address: str) -> None:
    status, answer = ask(host, address, "/runner/v1/schedule", batch("python"))
    assert (status, answer["results"][0]["status"]) == (200, "unroutable")  # type: ignore[index]


def test_largest_batch(host: Host, address: str) -> None:
    assert ask(host, address, "/runner/v1/schedule", batch("matlab", "matlab"))[0] in {400, 413, 422}


def test_a_network_that_is_not_listed(host: Host) -> None:
    status, answer = ask(host, "127.0.0.1", "/runner/v1/health")
    assert (status, answer["code"]) == (403, "forbidden")


def test_exact_sockets(host: Host) -> None:
    lines = host.check_output("ss -Hltnp").splitlines()
    assert {line.split()[3] for line in lines if "nginx" in line} == {"0.0.0.0:9443"}


def test_queues_on_the_broker(host: Host) -> None:
    listed = host.check_output("rabbitmqctl -q -p other list_queues name type").splitlines()
    names = {line.split()[0] for line in listed if line.startswith("labfleet.")}
    wanted = {"key.matlab", "key.r.large", "control.worker1", "control.worker2"}
    assert {f"labfleet.{name}" for name in wanted} <= names


def test_two_processes(host: Host) -> None:
    assert "-c 2" in host.check_output("systemctl show labfleet-runner.service --property=ExecStart")
