"""Figures: counted by several processes, told by one; what is of the moment goes with its process."""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from labfleet.metrics import take_place
from labfleet.metrics.exporter import Server, Sources, alive, only_for

PROCESS = """
import sys, time
from labfleet.metrics import SUM, Counter, Gauge, Histogram
requests = Counter("test_requests", "Requests.", ["route"])
seconds = Histogram("test_seconds", "Time.", buckets=(1, 10))
busy = Gauge("test_busy", "Busy.", multiprocess_mode=SUM)
requests.labels("/jobs").inc(3)
seconds.observe(5)
busy.set(2)
print("ready", flush=True)
sys.stdin.readline()
"""
Told = dict[str, float]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    place = tmp_path / "web"
    place.mkdir()
    return place


class Process:
    """A process that counts 3 requests and is busy with 2 things until it is told to end."""

    def __init__(self, directory: Path) -> None:
        environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(directory)}
        self.running = subprocess.Popen(
            [sys.executable, "-c", PROCESS],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.running.stdout
        assert self.running.stdout.readline() == "ready\n"

    def end(self) -> None:
        self.running.communicate("\n", timeout=20)


@pytest.fixture
def server(directory: Path) -> Iterator[Server]:
    sources = Sources(
        {"web": directory, "worker": directory.parent / "none"}, release="1.2.3-abc", code="c0de"
    )
    made = Server(("127.0.0.1", 0), sources, [ip_network("127.0.0.1/32")])
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()


def scrape(server: Server) -> Told:
    url = f"http://127.0.0.1:{server.server_address[1]}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        text = answer.read().decode()
    told = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            assert f"{sample.name} {labels}" not in told, f"{sample.name} {labels} is told twice"
            told[f"{sample.name} {labels}".strip()] = sample.value
    return told


def test_processes_count_together_and_a_dead_one_leaves_its_counts_but_not_its_gauges(
    directory: Path, server: Server
) -> None:
    first, second = Process(directory), Process(directory)
    told = scrape(server)
    assert told["test_requests_total route=/jobs"] == 6
    assert told["test_seconds_bucket le=10.0"] == told["test_seconds_count"] == 2
    assert told["test_seconds_bucket le=1.0"] == 0
    assert told["test_busy"] == 4
    assert told["labfleet_processes process=web"] == 2
    first.end()
    told = scrape(server)
    assert told["test_requests_total route=/jobs"] == 6
    assert (told["test_busy"], told["labfleet_processes process=web"]) == (2, 1)
    second.end()
    told = scrape(server)
    assert told["test_requests_total route=/jobs"] == 6
    assert "test_busy" not in told
    assert told["labfleet_processes process=web"] == told["labfleet_processes process=worker"] == 0


def test_files_do_not_multiply_with_restarts(directory: Path, server: Server) -> None:
    for _ in range(3):
        Process(directory).end()
    assert sorted(path.name for path in directory.glob("*.db")) == [
        "counter_0.db",
        "gauge_livesum_0.db",
        "histogram_0.db",
    ]
    assert scrape(server)["test_requests_total route=/jobs"] == 9


def test_others_may_read_the_files_whatever_the_mask_is(directory: Path) -> None:
    before = os.umask(0o077)
    try:
        _, lock = take_place(directory)
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in directory.iterdir()} == {0o644}
    assert alive(directory) == ["0"]
    os.close(lock)
    assert alive(directory) == []


def test_a_process_works_where_it_cannot_be_counted(tmp_path: Path) -> None:
    script = "from labfleet.metrics import Counter; c = Counter('a', 'A.'); c.inc(); print(c._value.get())"
    for directory in (str(tmp_path / "none"), ""):
        done = subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": directory},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout.split()[-1]) == (0, "1.0"), done.stderr
        assert list(tmp_path.iterdir()) == []


def test_only_those_that_may_ask_are_answered(directory: Path) -> None:
    server = Server(("127.0.0.1", 0), Sources({"web": directory}), [ip_network("192.0.2.0/24")])
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(f"http://127.0.0.1:{server.server_address[1]}/metrics", timeout=10)
    server.shutdown()
    server.server_close()


def certificate(folder: Path, name: str, authority: str = "") -> tuple[Path, Path]:
    """A certificate and its key, of an authority or its own."""
    found = folder / f"{name}.crt", folder / f"{name}.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-subj", f"/CN={name}", "-days", "2", "-out", str(found[0]), "-keyout", str(found[1])]
    if authority:
        command += ["-CA", str(folder / f"{authority}.crt"), "-CAkey", str(folder / f"{authority}.key")]
        command += ["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"]
    subprocess.run(command, check=True, capture_output=True)
    return found


def test_by_tls_only_those_with_the_right_certificate_are_answered(directory: Path, tmp_path: Path) -> None:
    lab, _ = certificate(tmp_path, "lab")
    clients, _ = certificate(tmp_path, "clients")
    own, right = certificate(tmp_path, "own", "lab"), certificate(tmp_path, "right", "clients")
    server = Server(
        ("127.0.0.1", 0), Sources({"web": directory}), [ip_network("127.0.0.1/32")], only_for(clients, *own)
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port = server.server_address[1]
    url = f"https://127.0.0.1:{port}/metrics"
    # One that says nothing holds nobody up.
    with socket.create_connection(("127.0.0.1", port)):
        for shown, expected in ((right, True), (own, False), (None, False)):
            context = ssl.create_default_context(cafile=str(lab))
            if shown:
                context.load_cert_chain(*shown)
            try:
                with urllib.request.urlopen(url, timeout=10, context=context) as answer:
                    answered = b"labfleet_processes" in answer.read()
            except OSError:
                answered = False
            assert answered is expected
        with pytest.raises((OSError, http.client.HTTPException)):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10)
    server.shutdown()
    server.server_close()


def test_a_silent_client_holds_nobody_up(directory: Path, server: Server) -> None:
    with socket.create_connection(server.server_address[:2]):  # type: ignore[arg-type]
        began = time.monotonic()
        assert scrape(server)["labfleet_release_info code=c0de,release=1.2.3-abc"] == 1
        assert time.monotonic() - began < 5


def test_the_last_backup_and_certificates_are_told(directory: Path, tmp_path: Path) -> None:
    status = tmp_path / "status.json"
    status.write_text('{"succeeded_at": 1700000000}')
    missing = tmp_path / "missing.crt"
    upkeep = tmp_path / "upkeep"
    server = Server(
        ("127.0.0.1", 0),
        Sources({"web": directory}, [missing], status, upkeep),
        [ip_network("127.0.0.1/32")],
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    told = scrape(server)
    assert told["labfleet_backup_success_seconds"] == 1700000000
    assert not [name for name in told if "certificate_end" in name or "upkeep" in name]
    upkeep.mkdir()
    (upkeep / "sweep").touch()
    os.utime(upkeep / "sweep", (1, 1600000000))
    assert scrape(server)["labfleet_upkeep_success_seconds unit=labfleet-sweep"] == 1600000000
    status.write_text("half")
    assert scrape(server)["labfleet_backup_success_seconds"] == 0
    server.shutdown()
    server.server_close()
