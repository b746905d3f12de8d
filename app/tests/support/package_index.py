"""A package index for tests: wheels that are made here, served on the loopback as PEP 503 has it."""

from __future__ import annotations

import base64
import hashlib
import io
import re
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

EPOCH = (2020, 1, 1, 0, 0, 0)


def wheel(
    name: str,
    version: str,
    *,
    files: dict[str, str] | None = None,
    requires: tuple[str, ...] = (),
    scripts: tuple[str, ...] = (),
    entries: tuple[str, ...] = (),
    tag: str = "py3-none-any",
) -> tuple[str, bytes]:
    """Name and content of a wheel; the same content each time. `entries` are lines of entry points."""
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    content = {
        f"{module}/__init__.py": f'VERSION = "{version}"\n',
        **(files or {}),
        f"{info}/METADATA": metadata + "".join(f"Requires-Dist: {item}\n" for item in requires),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    if scripts or entries:
        lines = (*(("[console_scripts]", *scripts) if scripts else ()), *entries, "")
        content[f"{info}/entry_points.txt"] = "\n".join(lines)
    record = "".join(f"{path},{_record(text)},{len(text.encode())}\n" for path, text in content.items())
    content[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, text in content.items():
            archive.writestr(zipfile.ZipInfo(path, EPOCH), text)
    return f"{module}-{version}-{tag}.whl", buffer.getvalue()


def sdist(name: str, version: str, files: dict[str, str]) -> tuple[str, bytes]:
    """Name and content of a source package."""
    top = f"{name}-{version}"
    information = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for path, text in {**files, "PKG-INFO": information}.items():
            info = tarfile.TarInfo(f"{top}/{path}")
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))
    return f"{top}.tar.gz", buffer.getvalue()


def _record(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256={base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


def pin(file: tuple[str, bytes]) -> str:
    """The line of a lock file for a wheel."""
    name, version, *_ = file[0].removesuffix(".tar.gz").split("-")
    return f"{name.replace('_', '-')}=={version} --hash=sha256:{hashlib.sha256(file[1]).hexdigest()}\n"


class PackageIndex(ThreadingHTTPServer):
    """Listens on a free port of the loopback. `down` answers 503 to everything; `asked` are the paths."""

    daemon_threads = True

    def __init__(self, *files: tuple[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = dict(files)
        self.down = False
        self.asked: list[str] = []
        self.hold = threading.Event()
        self.hold.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/simple"


class _Handler(BaseHTTPRequestHandler):
    server: PackageIndex

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.server.hold.wait(60)
        if self.server.down:
            self._answer(503, b"")
            return
        kind, _, name = self.path.strip("/").partition("/")
        if kind == "files" and name in self.server.files:
            self._answer(200, self.server.files[name])
            return
        links = [self._link(file) for file in self.server.files if kind == "simple" and _named(file) == name]
        self._answer(200 if links else 404, "".join(links).encode(), "text/html")

    def do_HEAD(self) -> None:
        self.do_GET()

    def _link(self, file: str) -> str:
        digest = hashlib.sha256(self.server.files[file]).hexdigest()
        return f'<a href="/files/{file}#sha256={digest}">{file}</a>\n'

    def _answer(self, status: int, body: bytes, media_type: str = "application/octet-stream") -> None:
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        """Silence."""


def _named(file: str) -> str:
    return re.sub("_", "-", file.split("-", maxsplit=1)[0])
