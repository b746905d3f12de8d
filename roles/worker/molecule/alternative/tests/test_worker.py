"""A worker with every variable moved, from a release that lies elsewhere."""

import tomllib

from testinfra.host import Host


def test_settings(host: Host) -> None:
    told = tomllib.loads(host.file("/etc/labfleet/worker.toml").content_string)
    address = host.check_output("hostname -I").split()[0]
    ca_file = "/etc/labfleet/tls/front-end-{}.crt"
    assert told == {
        "worker": {
            "name": "large1",
            "keys": ["python.large"],
            "tags": ["large", "gpu", "machine.large1"],
            "slots": 3,
            "work_directory": "/srv/work",
            "attempt_scheduling": "idle",
            "presence_seconds": 20,
            "grace_seconds": 3,
            "patience_seconds": 60,
            "protocol_cache_bytes": 1000000,
            "sandbox_readonly_paths": ["/opt"],
            "store_mount": "/srv/store",
        },
        "packages": {
            "index_url": "https://packages.example.org/simple",
            "ca_file": "/etc/labfleet/tls/worker-package-index.crt",
            "r_index_urls": ["https://packages.example.org/cran", "https://packages.example.org/bioc"],
            "r_ca_file": "/etc/labfleet/tls/worker-r-index.crt",
            "sdists": True,
            "build_seconds": 60,
            "environment_bytes": 1000000,
            "cache_bytes": 3000000,
        },
        "images": {
            "enabled": True,
            "registries": ["registry.example.org/lab", "registry.example.org:5000"],
            "folder": "/srv/images",
            "ca_file": "/etc/labfleet/tls/worker-images.crt",
            "sign_in": True,
            "max_seconds": 60,
            "max_bytes": 1000000,
        },
        "broker": {"hosts": [address], "port": 5673, "vhost": "other", "user": "labfleet_worker"},
        "front_ends": {
            "web": {"url": "https://192.0.2.1", "ca_file": ca_file.format("web")},
            "other": {"url": "https://192.0.2.2:444", "ca_file": ca_file.format("other")},
        },
        "log": {"level": "debug"},
    }


def test_unit(host: Host) -> None:
    assert host.service("labfleet-worker").is_running
    address = host.check_output("hostname -I").split()[0]
    text = host.file("/etc/systemd/system/labfleet-worker.service").content_string.splitlines()
    for line in (
        "X-Labfleet-Release=a-release-of-the-test",
        "ExecStart=/srv/labfleet/current/bin/celery -A labfleet.worker.app worker --hostname large1",
        "WorkingDirectory=/srv/work",
        "ReadWritePaths=/srv/work",
        "LoadCredential=registry_auth:/etc/labfleet/credentials/worker/registry_auth",
        "IPAddressAllow=localhost " + " ".join(sorted([address, "192.0.2.1", "192.0.2.2"])),
    ):
        assert line in text


def test_profiles_enforce_and_follow_the_paths(host: Host) -> None:
    texts = {name: host.file(f"/etc/apparmor.d/labfleet-{name}").content_string for name in ("worker", "attempt")}
    for name, text in texts.items():
        host.check_output(f"apparmor_parser --skip-kernel-load --skip-cache /etc/apparmor.d/labfleet-{name}")
        heads = [line for line in text.splitlines() if line.startswith("profile ")]
        assert heads
        assert not any("complain" in line for line in heads)
    for rule in ("/srv/labfleet/** mr,", "/srv/work/** rwkl,", "/srv/store/** r,", "/run/labfleet-metrics-worker/** rwk,"):
        assert rule in texts["worker"]
    assert "/opt/** mrix," in texts["attempt"]


def test_reads_the_queues_of_its_key_and_its_name(host: Host) -> None:
    consumers = host.check_output("rabbitmqctl --silent -p other list_consumers queue_name </dev/null")
    queues = {line for line in consumers.splitlines() if line.startswith("labfleet.")}
    assert queues == {"labfleet.key.python.large", "labfleet.worker.large1", "labfleet.control.large1"}


def test_takes_as_much_as_it_has_slots(host: Host) -> None:
    consumers = host.check_output(
        "rabbitmqctl --silent -p other list_consumers queue_name prefetch_count </dev/null"
    )
    rows = [line.split() for line in consumers.splitlines()]
    for queue in ("labfleet.key.python.large", "labfleet.worker.large1"):
        assert [queue, "3"] in rows


def test_only_the_packages_that_were_asked_for(host: Host) -> None:
    assert host.package("jq").is_installed
    assert not host.package("r-base-core").is_installed


def test_what_images_need(host: Host) -> None:
    for name in ("skopeo", "busybox-static", "zstd"):
        assert host.package(name).is_installed
    assert "BEGIN CERTIFICATE" in host.file("/etc/labfleet/tls/worker-images.crt").content_string
    secret = host.file("/etc/labfleet/credentials/worker/registry_auth")
    assert (secret.user, secret.mode) == ("root", 0o600)
    assert secret.content_string == '{"auths": {"registry.example.org": {"auth": "bGFiOnNlc2FtZQ=="}}}'
    assert "bGFiOnNlc2FtZQ" not in host.file("/etc/labfleet/worker.toml").content_string
    assert "  /** mrix," in host.file("/etc/apparmor.d/labfleet-attempt").content_string.splitlines()


def test_attempts_weigh_less_than_services(host: Host) -> None:
    shown = host.check_output("systemctl show user.slice --property=CPUWeight,IOWeight --value")
    assert set(shown.split()) == {"50"}


def test_work_directory(host: Host) -> None:
    directory = host.file("/srv/work")
    assert (directory.user, directory.group, directory.mode) == ("labfleet-worker", "labfleet-worker", 0o700)
    assert host.user("labfleet-worker").home == "/srv/work"
    assert not host.file("/var/lib/labfleet-worker").exists


def test_authority_of_each_front_end(host: Host) -> None:
    for name in ("web", "other"):
        assert "BEGIN CERTIFICATE" in host.file(f"/etc/labfleet/tls/front-end-{name}.crt").content_string


def test_no_unit_has_failed(host: Host) -> None:
    assert host.check_output("systemctl --failed --plain --no-legend") == ""


def test_worker_counts_where_another_user_may_read(host: Host) -> None:
    folder = "/run/labfleet-metrics-worker"
    assert host.run(f"runuser -u nobody -- grep -aq labfleet_ {folder}/gauge_livesum_0.db {folder}/counter_0.db").rc == 0
    assert host.file(folder).user == host.check_output("systemctl show -P User labfleet-worker.service")
