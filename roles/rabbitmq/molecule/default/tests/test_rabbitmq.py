"""A broker with the vhost and the users of a lab, on loopback and on the machine's address."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from amqp.exceptions import AccessRefused, NotAllowed
from kombu import Connection
from kombu.transport.pyamqp import Channel
from testinfra.host import Host

VERSIONS = {"12": "3.10", "13": "4.0"}
PASSWORDS = {
    "labfleet_publisher": "publisher-password-of-the-test",
    "labfleet_worker": "worker-password-of-the-test",
}
QUEUE, EXCHANGE = "labfleet.probe", "labfleet.probes"


def release(host: Host) -> str:
    return str(host.system_info.release).split(".")[0]


def address(host: Host) -> str:
    return str(host.check_output("hostname -I")).split()[0]


@pytest.fixture(scope="module")
def definitions(host: Host) -> dict[str, Any]:
    exported: dict[str, Any] = json.loads(
        host.check_output("rabbitmqctl --quiet export_definitions - </dev/null")
    )
    return exported


@contextmanager
def channel(host: Host, user: str, password: str | None = None, vhost: str = "labfleet") -> Iterator[Channel]:
    """A channel of a real client, from outside the machine."""
    secret = PASSWORDS.get(user, "guest") if password is None else password
    server = {"hostname": address(host), "userid": user, "password": secret, "virtual_host": vhost}
    with Connection(transport="pyamqp", connect_timeout=5, **server) as connection:
        yield connection.channel()


@pytest.fixture
def probe(host: Host) -> Iterator[None]:
    """An exchange, and a queue bound to it, made by the publisher without naming a type."""
    with channel(host, "labfleet_publisher") as publisher:
        publisher.exchange_declare(EXCHANGE, type="topic", durable=True, auto_delete=False)
        publisher.queue_declare(QUEUE, durable=True, auto_delete=False)
        publisher.queue_bind(QUEUE, EXCHANGE, routing_key="probe")
        yield
        publisher.queue_delete(QUEUE)
        publisher.exchange_delete(EXCHANGE)


def test_version(host: Host) -> None:
    assert host.package("rabbitmq-server").version.startswith(VERSIONS[release(host)])


def test_listens_where_it_was_told_and_nowhere_else(host: Host) -> None:
    listeners = {line.split()[3] for line in host.check_output("ss -Hlnt").splitlines()}
    assert listeners == {
        "0.0.0.0:22",
        "[::]:22",
        "127.0.0.1:5672",
        f"{address(host)}:5672",
        "127.0.0.1:4369",
        "127.0.0.1:25672",
    }


def test_exactly_these_users(definitions: dict[str, Any]) -> None:
    users = {(user["name"], tuple(user["tags"])) for user in definitions["users"]}
    assert users == {("labfleet_publisher", ()), ("labfleet_worker", ())}


def test_exactly_these_permissions(definitions: dict[str, Any]) -> None:
    everything, nothing = r"^labfleet\..*", "^$"
    permissions = sorted(definitions["permissions"], key=lambda permission: permission["user"])
    assert permissions == [
        {"user": user, "vhost": "labfleet", "configure": configure, "write": write, "read": everything}
        for user, configure, write in (
            ("labfleet_publisher", everything, everything),
            ("labfleet_worker", nothing, nothing),
        )
    ]


def test_exactly_this_vhost(definitions: dict[str, Any]) -> None:
    vhosts = [(vhost["name"], vhost["metadata"]["default_queue_type"]) for vhost in definitions["vhosts"]]
    assert vhosts == [("labfleet", "quorum")]


@pytest.mark.parametrize("user", list(PASSWORDS))
def test_right_password(host: Host, user: str) -> None:
    with channel(host, user) as opened:
        assert opened.is_open


@pytest.mark.parametrize("user", [*PASSWORDS, "guest", "stranger"])
def test_wrong_password(host: Host, user: str) -> None:
    with pytest.raises(AccessRefused), channel(host, user, password="something-else"):
        pass


def test_guest_is_gone(host: Host) -> None:
    with pytest.raises(AccessRefused), channel(host, "guest"):
        pass


def test_no_other_vhost(host: Host) -> None:
    with pytest.raises(NotAllowed), channel(host, "labfleet_worker", vhost="/"):
        pass


@pytest.mark.usefixtures("probe")
def test_a_queue_without_a_type_is_a_quorum_queue(host: Host) -> None:
    queues = host.check_output("rabbitmqctl --silent list_queues -p labfleet name type </dev/null")
    assert queues.split() == [QUEUE, "quorum"]


@pytest.mark.usefixtures("probe")
def test_publisher_publishes_and_worker_consumes(host: Host) -> None:
    with channel(host, "labfleet_publisher") as publisher:
        publisher.confirm_select()
        publisher.basic_publish_confirm(
            publisher.prepare_message("hello", content_encoding="utf-8"), EXCHANGE, "probe", timeout=5
        )
    with channel(host, "labfleet_worker") as worker:
        message = worker.basic_get(QUEUE, no_ack=True)
    assert message is not None
    assert message.body == "hello"


@pytest.mark.usefixtures("probe")
def test_worker_cannot_publish(host: Host) -> None:
    with channel(host, "labfleet_worker") as worker, pytest.raises(AccessRefused):
        worker.confirm_select()
        worker.basic_publish_confirm(
            worker.prepare_message("hello", content_encoding="utf-8"), EXCHANGE, "probe", timeout=5
        )


def test_worker_cannot_declare(host: Host) -> None:
    with channel(host, "labfleet_worker") as worker, pytest.raises(AccessRefused):
        worker.queue_declare("labfleet.mine")


def test_publisher_stays_in_its_names(host: Host) -> None:
    with channel(host, "labfleet_publisher") as publisher, pytest.raises(AccessRefused):
        publisher.queue_declare("other.queue")


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("consumer_timeout", "{ok,172800000}"),
        ("heartbeat", "{ok,60}"),
        ("max_message_size", "{ok,1048576}"),
        ("loopback_users", '{ok,[<<"guest">>]}'),
    ],
)
def test_limits(host: Host, setting: str, value: str) -> None:
    expression = f"application:get_env(rabbit, {setting})."
    assert host.check_output(f"rabbitmqctl --silent eval '{expression}' </dev/null") == value


@pytest.mark.parametrize(
    ("path", "owner", "group", "mode"),
    [
        ("/etc/rabbitmq/rabbitmq.conf", "root", "rabbitmq", 0o640),
        ("/etc/rabbitmq/rabbitmq-env.conf", "root", "rabbitmq", 0o644),
        ("/etc/rabbitmq/enabled_plugins", "root", "rabbitmq", 0o644),
        ("/etc/systemd/system/epmd.socket.d/labfleet.conf", "root", "root", 0o644),
        ("/var/lib/rabbitmq/.erlang.cookie", "rabbitmq", "rabbitmq", 0o400),
    ],
)
def test_files(host: Host, path: str, owner: str, group: str, mode: int) -> None:
    file = host.file(path)
    assert (file.user, file.group, file.mode) == (owner, group, mode)


def test_node_does_not_depend_on_the_name_of_the_machine(host: Host) -> None:
    assert host.check_output("rabbitmqctl --silent eval 'node().' </dev/null") == "rabbit@localhost"


def test_no_password_lies_about(host: Host) -> None:
    for password in PASSWORDS.values():
        assert (
            host.run(f"grep -rlF -- {password} /var/log /etc /root/.ansible /tmp /var/lib/rabbitmq").stdout
            == ""
        )
        assert host.run(f"journalctl --no-pager | grep -F -- {password}").stdout == ""
    assert host.run("ls -d /tmp/rabbitmq-access-*").stdout == ""


def test_runs_after_a_restart_of_the_machine(host: Host) -> None:
    service = host.service("rabbitmq-server")
    assert service.is_enabled
    assert service.is_running
    assert host.check_output("systemctl --failed --plain --no-legend") == ""
