"""Debian's `docker-registry` on the loopback, with TLS, and with a login where that is asked for."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from container_images import Image
from mail_server import certificate

USER, PASSWORD = "labfleet", "the password of the registry"
HASH = "$2y$04$abcdefghijklmnopqrstuu0dcyPb7U2FpJ5ML1z6dRRP0G0CjhCA."
"""Of the password, by bcrypt."""
WANTED = ("docker-registry", "skopeo", "zstd")
_SECONDS = 60


@dataclass(frozen=True)
class Registry:
    """One that runs. `host` is how references name it, `ca_file` vouches for it."""

    host: str
    ca_file: Path
    folder: Path
    login: bool
    process: subprocess.Popen[bytes]

    @property
    def auth(self) -> str:
        """What opens it, as `containers-auth.json` has it."""
        word = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        return json.dumps({"auths": {self.host: {"auth": word}}})

    def push(self, image: Image, name: str = "lab/tool") -> str:
        """Put an image there; its reference."""
        source = self.folder / "pushed" / image.digest
        if not source.exists():
            image.save(source)
        command = ["skopeo", "--insecure-policy", "copy", "--all", "--preserve-digests", "--quiet"]
        command += ["--dest-tls-verify=false"]
        if self.login:
            file = self.folder / "auth.json"
            file.write_text(self.auth)
            command += [f"--authfile={file}"]
        target = f"docker://{self.host}/{name}:latest"
        done = subprocess.run(
            [*command, f"dir:{source}", target], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return f"{self.host}/{name}@sha256:{image.digest}"

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def registry(folder: Path, *, login: bool = False) -> Iterator[Registry]:
    """One with its files in `folder`."""
    if missing := [name for name in WANTED if shutil.which(name) is None]:
        words = f"There is no {', '.join(missing)}. Install it: apt-get install {' '.join(WANTED)}"
        pytest.fail(words, pytrace=False)
    folder.mkdir()
    port = _free_port()
    _, cert = certificate(folder)
    http = {"addr": f"127.0.0.1:{port}", "tls": {"certificate": str(cert), "key": str(folder / "mail.key")}}
    settings: dict[str, object] = {
        "version": 0.1,
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
        "http": http,
    }
    if login:
        (folder / "htpasswd").write_text(f"{USER}:{HASH}\n")
        settings["auth"] = {"htpasswd": {"realm": "tests", "path": str(folder / "htpasswd")}}
    (folder / "config.yml").write_text(json.dumps(settings))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            ["docker-registry", "serve", str(folder / "config.yml")], stdout=log, stderr=log
        )
    try:
        _wait_for(port, process, folder / "log")
        yield Registry(f"127.0.0.1:{port}", cert, folder, login, process)
    finally:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + _SECONDS
    while not _listens(port):
        assert process.poll() is None and time.monotonic() < end, log.read_text()
        time.sleep(0.1)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
