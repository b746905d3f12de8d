"""Answers Prometheus for all of our processes on this machine: `labfleet metrics`.

Reads what they have counted, and files that everybody may read. It has no secret and asks nobody anything, so
a scrape costs the same whatever the length of the queue.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import ssl
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import distribution
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import cast

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from labfleet.log import get_logger
from labfleet.metrics import KINDS
from labfleet.networks import Network

_log = get_logger(__name__)
REQUEST_SECONDS = 10


def code_hash() -> str:
    """A hash of the application's installed files; empty where it runs from a mounted tree."""
    recorded = (distribution("labfleet").read_text("RECORD") or "").splitlines()
    ours = sorted(line for line in recorded if line.startswith("labfleet/") and ".pyc," not in line)
    return hashlib.sha256("\n".join(ours).encode()).hexdigest()[:12] if ours else ""


@dataclass(frozen=True)
class Sources:
    """What an exporter tells: processes' directories, certificates, the last backup's word, a file for each
    piece of upkeep that is as old as its last success, the release."""

    processes: dict[str, Path]
    certificates: Sequence[Path] = ()
    backup_status: Path | None = None
    upkeep: Path | None = None
    release: str = ""
    code: str = field(default_factory=code_hash)


def alive(directory: Path) -> list[str]:
    """The places of the directory that a process holds."""
    return sorted(path.stem for path in directory.glob("*.lock") if _held(path))


def _held(path: Path) -> bool:
    lock = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def figures(directory: Path) -> Iterable[Metric]:
    """What the processes of the directory have counted, together; gauges only of those that are alive."""
    held = set(alive(directory))
    files = [
        str(path)
        for kind in KINDS
        for path in directory.glob(f"{kind}_*.db")
        # A file is empty until its process counts for the first time.
        if path.stat().st_size and (not kind.startswith("gauge") or path.stem.rpartition("_")[2] in held)
    ]
    return cast(Iterable[Metric], MultiProcessCollector.merge(files))  # type: ignore[no-untyped-call]


@dataclass(eq=False)
class Machine(Collector):
    """All that is told of this machine."""

    sources: Sources
    _ends: dict[tuple[Path, float], float] = field(default_factory=dict)

    def collect(self) -> Iterator[Metric]:
        """Our processes, their figures, certificates, backup, upkeep and release."""
        up = GaugeMetricFamily("labfleet_processes", "Processes of this kind that run.", labels=["process"])
        for name, directory in self.sources.processes.items():
            up.add_metric([name], len(alive(directory)))
        yield up
        for directory in self.sources.processes.values():
            yield from figures(directory)
        yield from self._certificates()
        yield from self._backup()
        yield from self._upkeep()
        release = GaugeMetricFamily(
            "labfleet_release_info",
            "The installed release, and its code, which is the same in releases for other tiers.",
            labels=["release", "code"],
        )
        release.add_metric([self.sources.release, self.sources.code], 1)
        yield release

    def _certificates(self) -> Iterator[Metric]:
        told = GaugeMetricFamily(
            "labfleet_certificate_end_seconds", "When the certificate ends (since 1970).", labels=["file"]
        )
        for path in self.sources.certificates:
            try:
                told.add_metric([str(path)], self._end(path))
            except (OSError, ValueError, subprocess.SubprocessError) as error:
                _log.warning("a certificate can't be read", file=str(path), error=str(error))
        yield told

    def _end(self, path: Path) -> float:
        """Read once for each version of the file."""
        key = (path, path.stat().st_mtime)
        if key not in self._ends:
            command = ["openssl", "x509", "-noout", "-enddate", "-in", str(path)]
            said = subprocess.run(
                command, capture_output=True, text=True, check=True, timeout=REQUEST_SECONDS
            )
            self._ends[key] = float(ssl.cert_time_to_seconds(said.stdout.strip().partition("=")[2]))
        return self._ends[key]

    def _backup(self) -> Iterator[Metric]:
        path = self.sources.backup_status
        if path is None or not path.is_file():
            return
        try:
            last = float(json.loads(path.read_text(encoding="utf-8")).get("succeeded_at") or 0)
        except (OSError, ValueError, TypeError) as error:
            _log.warning("the backup's word can't be read", file=str(path), error=str(error))
            last = 0.0
        yield GaugeMetricFamily(
            "labfleet_backup_success_seconds", "When a backup succeeded last (since 1970; 0: never).", last
        )

    def _upkeep(self) -> Iterator[Metric]:
        told = GaugeMetricFamily(
            "labfleet_upkeep_success_seconds",
            "When what a timer starts succeeded last (since 1970).",
            labels=["unit"],
        )
        directory = self.sources.upkeep
        for path in sorted(directory.iterdir()) if directory and directory.is_dir() else []:
            told.add_metric([f"labfleet-{path.name}"], path.stat().st_mtime)
        yield told


def only_for(clients: Path, certificate: Path, key: Path) -> ssl.SSLContext:
    """TLS with our certificate, for those alone whose own one an authority in `clients` has signed."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(clients))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(certificate, key)
    return context


class _Handler(BaseHTTPRequestHandler):
    """Answers `GET /metrics` to those that may ask."""

    server: Server
    timeout = REQUEST_SECONDS

    def do_GET(self) -> None:
        if not self.server.may_ask(self.client_address[0]):
            self._say(HTTPStatus.FORBIDDEN, b"This address may not ask; see monitoring_allowed_networks.\n")
        elif self.path.split("?")[0] != "/metrics":
            self._say(HTTPStatus.NOT_FOUND, b"There is only /metrics here.\n")
        else:
            self._say(HTTPStatus.OK, self.server.exposition(), CONTENT_TYPE_PLAIN_0_0_4)

    def _say(self, status: HTTPStatus, body: bytes, content_type: str = "text/plain; charset=utf-8") -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """A scrape every few seconds is no news."""

    def version_string(self) -> str:
        return "labfleet"


class Server(ThreadingHTTPServer):
    """Listens at `address`, and answers only addresses of the networks."""

    daemon_threads = True

    def __init__(
        self,
        address: tuple[str, int],
        sources: Sources,
        networks: Sequence[Network],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._networks = networks
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(Machine(sources))
        super().__init__(address, _Handler)
        if tls:
            # Each connection's own thread greets its client: one that is slow or silent holds nobody up.
            self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client without the right certificate, or one that went away, is no fault of ours."""
        del request
        _log.info("a question broke off", client=str(client_address), error=str(sys.exception()))

    def may_ask(self, client: str) -> bool:
        """Whether the client's address lies in one of the networks."""
        return any(ip_address(client) in ip_network(network) for network in self._networks)

    def exposition(self) -> bytes:
        """The figures in Prometheus's text form."""
        return generate_latest(self._registry)
