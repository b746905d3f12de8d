"""A broker with every variable moved off its default."""

import json
import os
import socket
import ssl
from pathlib import Path
from typing import Any

import httpx
import pytest
from amqp.exceptions import AccessRefused
from kombu import Connection
from testinfra.host import Host

WATCHER = ("watcher", 'watcher\'s "password" $HOME of the test')
LOCAL = ("local", "local-password-of-the-test")


def address(host: Host) -> str:
    return str(host.check_output("hostname -I")).split()[0]


@pytest.fixture(scope="module")
def definitions(host: Host) -> dict[str, Any]:
    exported: dict[str, Any] = json.loads(
        host.check_output("rabbitmqctl --quiet export_definitions - </dev/null")
    )
    return exported


def test_listens_where_it_was_told_and_nowhere_else(host: Host) -> None:
    listeners = {line.split()[3] for line in host.check_output("ss -Hlnt").splitlines()}
    own = {f"{address(host)}:{port}" for port in (4369, 5673, 5674, 15673, 15693, 25673)}
    assert listeners == {"0.0.0.0:22", "[::]:22", "127.0.0.1:4369", *own}


def test_exactly_these_users(definitions: dict[str, Any]) -> None:
    users = {user["name"]: sorted(user["tags"]) for user in definitions["users"]}
    assert users == {"watcher": ["monitoring", "policymaker"], "local": []}


def test_exactly_these_permissions(definitions: dict[str, Any]) -> None:
    permissions = sorted(definitions["permissions"], key=lambda permission: permission["vhost"])
    assert permissions == [
        {"user": "local", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"},
        {"user": "local", "vhost": "other", "configure": "^$", "write": "^$", "read": ".*"},
    ]


def test_exactly_these_vhosts(definitions: dict[str, Any]) -> None:
    vhosts = {v["name"]: v["metadata"].get("default_queue_type", "classic") for v in definitions["vhosts"]}
    assert vhosts == {"/": "classic", "other": "stream"}


def test_management_answers(host: Host) -> None:
    url = f"http://{address(host)}:15673/api/overview"
    assert httpx.get(url, auth=WATCHER).json()["node"] == "lab@broker.lab.test"
    assert httpx.get(url, auth=("watcher", "something-else")).status_code == httpx.codes.UNAUTHORIZED


def test_prometheus_is_answered_by_tls_and_nobody_else(host: Host) -> None:
    url = "https://broker.lab.test:15693/metrics"
    tls = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "tls"

    def ask(*shown: Path) -> str:
        context = ssl.create_default_context(cafile=str(tls / "ca.crt"))
        if shown:
            context.load_cert_chain(*shown)
        with httpx.Client(verify=context) as client:
            extensions = {"sni_hostname": "broker.lab.test"}
            return client.get(url.replace("broker.lab.test", address(host)), extensions=extensions).text

    figure = "rabbitmq_alarms_free_disk_space_watermark"
    assert figure in ask(tls / "monitoring-client.crt", tls / "monitoring-client.key")
    # A certificate of the lab's authority opens nothing here.
    node = next(tls.glob("rabbitmq-alternative-*.crt"))
    for shown in ((), (node, node.with_suffix(".key"))):
        with pytest.raises(httpx.TransportError):
            ask(*shown)
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://{address(host)}:15693/metrics")


def authority(host: Host) -> str:
    return str(host.file("/etc/rabbitmq/tls/ca.crt").content_string)


def test_clients_are_spoken_to_by_tls(host: Host) -> None:
    names = ssl.create_default_context(cadata=authority(host))
    with (
        socket.create_connection((address(host), 5674), 5) as plain,
        names.wrap_socket(plain, server_hostname="broker.lab.test") as tls,
    ):
        assert tls.version() == "TLSv1.3"
    with (
        socket.create_connection((address(host), 5674), 5) as plain,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        names.wrap_socket(plain, server_hostname="somebody.else.test")


def test_nodes_speak_to_each_other_by_tls_and_show_a_certificate(host: Host) -> None:
    nobody = ssl.create_default_context(cadata=authority(host))
    with socket.create_connection((address(host), 25673), 5) as plain:
        with pytest.raises(OSError, match="(?i)handshake.failure|certificate.required"):
            with nobody.wrap_socket(plain, server_hostname="broker.lab.test") as tls:
                # A server of TLS 1.3 says what it thinks of a client's certificate after the handshake.
                tls.sendall(b"?")
                if not tls.recv(1):
                    raise ConnectionResetError("closed")
    status = json.loads(host.check_output("rabbitmqctl --quiet cluster_status --formatter json </dev/null"))
    assert status["running_nodes"] == ["lab@broker.lab.test"]


def test_secrets_of_the_node(host: Host) -> None:
    for path in ("/etc/rabbitmq/tls/node.key", "/etc/rabbitmq/distribution.config"):
        file = host.file(path)
        assert (file.user, file.group, file.mode) == ("root", "rabbitmq", 0o640)
    cookie = host.file("/var/lib/rabbitmq/.erlang.cookie")
    assert (cookie.user, cookie.mode) == ("rabbitmq", 0o400)
    assert cookie.content_string == "TheSecretOfTheTestHasMoreThan32Letters"


def test_user_of_the_machine_itself_is_refused_elsewhere(host: Host) -> None:
    name, password = LOCAL
    server = {"hostname": address(host), "port": 5673, "userid": name, "password": password}
    with (
        pytest.raises(AccessRefused),
        Connection(transport="pyamqp", connect_timeout=5, **server) as connection,
    ):
        connection.connect()


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("consumer_timeout", "{ok,600000}"),
        ("heartbeat", "{ok,30}"),
        ("max_message_size", "{ok,4096}"),
        ("loopback_users", '{ok,[<<"local">>]}'),
        ("disk_free_limit", '{ok,"100MB"}'),
        ("vm_memory_high_watermark", "{ok,0.3}"),
    ],
)
def test_limits(host: Host, setting: str, value: str) -> None:
    expression = f"application:get_env(rabbit, {setting})."
    answer = host.check_output(f"rabbitmqctl --silent eval '{expression}' </dev/null")
    assert "".join(answer.split()) == value


def test_no_password_lies_about(host: Host) -> None:
    for trace in ("of the test", "of-the-test"):
        assert host.run(f"grep -rlF -- '{trace}' /var/log/rabbitmq /etc /tmp /var/lib/rabbitmq").stdout == ""


def test_no_unit_has_failed(host: Host) -> None:
    assert host.check_output("systemctl --failed --plain --no-legend") == ""
