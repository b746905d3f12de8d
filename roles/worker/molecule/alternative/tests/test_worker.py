"""A worker with every variable moved."""

import tomllib

from testinfra.host import Host


def test_settings(host: Host) -> None:
    told = tomllib.loads(host.file("/etc/labfleet/worker.toml").content_string)
    assert told["worker"] == {
        "name": "large1",
        "keys": ["python.large"],
        "slots": 3,
        "work_directory": "/srv/work",
        "presence_seconds": 20,
        "grace_seconds": 3,
        "patience_seconds": 60,
        "sandbox_readonly_paths": ["/opt"],
    }
    address = host.check_output("hostname -I").split()[0]
    assert told["broker"] == {"host": address, "port": 5672, "vhost": "other", "user": "labfleet_worker"}
    assert told["front_ends"]["other"] == {
        "url": "https://192.0.2.2:444",
        "ca_file": "/etc/labfleet/tls/front-end-other.crt",
    }
    assert told["log"] == {"level": "debug"}


def test_unit(host: Host) -> None:
    assert host.service("labfleet-worker").is_running
    allowed = host.check_output("systemctl show labfleet-worker --property=IPAddressAllow --value")
    assert {"192.0.2.1/32", "192.0.2.2/32"} <= set(allowed.split())


def test_connected_to_another_virtual_host(host: Host) -> None:
    assert "labfleet_worker\tother" in host.check_output("rabbitmqctl -q list_connections user vhost")


def test_only_the_packages_that_were_asked_for(host: Host) -> None:
    assert host.package("jq").is_installed
    assert not host.package("r-base-core").is_installed


def test_work_directory(host: Host) -> None:
    directory = host.file("/srv/work")
    assert (directory.user, directory.mode) == ("labfleet-worker", 0o700)
    assert not host.file("/var/lib/labfleet-worker").exists
