"""R packages for tests, made here, and an index of them on the loopback, laid out like CRAN."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import ssl
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

R_VERSION = "4.2.2"


def r_package(
    name: str,
    version: str,
    code: str = "",
    *,
    needs: str = "",
    imports: str = "",
    files: dict[str, str] | None = None,
    namespace: str = 'exportPattern("^[a-z]")',
) -> tuple[str, bytes]:
    """Name and content of a source package, the same each time. `needs` and `imports` are fields of its
    DESCRIPTION; a file `configure` is a program."""
    description = f"Package: {name}\nVersion: {version}\nTitle: A Package of the Tests\n"
    description += "Description: It is small.\nAuthor: A\nMaintainer: A <a@example.org>\nLicense: GPL-3\n"
    description += f"Depends: {needs}\n" if needs else ""
    description += f"Imports: {imports}\n" if imports else ""
    content = {
        "DESCRIPTION": description,
        "NAMESPACE": f"{namespace}\n" + "".join(f"import({item})\n" for item in imports.split(",") if item),
        "R/code.R": code or f'version <- function() "{name} {version}"\n',
        **(files or {}),
    }
    buffer = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):
        for path, text in content.items():
            info = tarfile.TarInfo(f"{name}/{path}")
            info.mode = 0o755 if path == "configure" else 0o644
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))
    return f"{name}_{version}.tar.gz", buffer.getvalue()


def record(file: tuple[str, bytes], **about: Any) -> dict[str, Any]:
    """A package's record in a lock file."""
    name, _, version = file[0].removesuffix(".tar.gz").partition("_")
    digest = hashlib.sha256(file[1]).hexdigest()
    known = {"Package": name, "Version": version, "Source": "Repository", "Repository": "CRAN"}
    return known | {"Hash": "d" * 32, "SHA256": digest} | about


def renv_lock(*records: dict[str, Any], r: str = R_VERSION) -> str:
    """A lock file as renv writes it."""
    about = {"Version": r, "Repositories": []}
    packages = {item["Package"]: item for item in records}
    return json.dumps({"R": about, "Packages": packages}, indent=2) + "\n"


class RIndex(ThreadingHTTPServer):
    """Listens on a free port of the loopback. `old` are the files that lie in the archive. `down` answers 503
    to everything, `broken` ends answers early; `asked` are the paths."""

    daemon_threads = True

    def __init__(self, *files: tuple[str, bytes], tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = dict(files)
        self.old: set[str] = set()
        self.down = self.broken = False
        self.asked: list[str] = []
        self.hold = threading.Event()
        self.hold.set()
        self._scheme = "https" if tls else "http"
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_side=True)

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.server_address[1]}/cran"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that does not trust the certificate, or was ended, is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: RIndex

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.server.hold.wait(60)
        if self.server.down:
            self._answer(503, b"")
            return
        name = self.path.rpartition("/")[2]
        package = name.partition("_")[0]
        folder = f"/cran/src/contrib/Archive/{package}" if name in self.server.old else "/cran/src/contrib"
        there = self.path == f"{folder}/{name}" and name in self.server.files
        self._answer(200 if there else 404, self.server.files[name] if there else b"")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/x-gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if self.server.broken else body)

    def log_message(self, *arguments: Any) -> None:
        """Silence."""
