"""The admin's command line, as an admin on the webserver runs it."""

from __future__ import annotations

import io
import subprocess
import tarfile
import zlib
from pathlib import Path

from .lab import Machine

PROTOCOLS = Path(__file__).parent / "protocols"
ADMIN = "/usr/local/sbin/labfleet-admin"


def labfleet(machine: Machine, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run an admin verb as the web service's user with its database password, nothing on a command line."""
    command = machine.ssh(ADMIN, *arguments)
    return subprocess.run(command, input=stdin, capture_output=True, check=False, timeout=120)


def add_user(machine: Machine, name: str, password: str) -> None:
    """Make an account unless it is there."""
    done = labfleet(
        machine, "user", "add", name, "--if-missing", "--password-file", "-", stdin=password.encode()
    )
    assert done.returncode == 0, done.stderr.decode()


def import_protocols(machine: Machine, *names: str, root: Path = PROTOCOLS) -> None:
    """Take test protocols into the catalogue; each gets a version that follows from its content."""
    folder = "/tmp/labfleet-acceptance"
    untar = f"rm -rf {folder} && mkdir -m 0755 {folder} && tar -x -C {folder}"
    packed = _pack([root / name for name in names])
    done = subprocess.run(
        machine.ssh("sh", "-c", f"'{untar}'"), input=packed, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    imported = labfleet(machine, "protocol", "import", *(f"{folder}/{name}" for name in names))
    assert imported.returncode == 0, imported.stderr.decode()
    machine.run(f"rm -rf {folder}")


def _pack(folders: list[Path]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for folder in folders:
            for name, content in versioned(folder).items():
                archive.addfile(_member(f"{folder.name}/{name}", content), io.BytesIO(content))
    return stream.getvalue()


def versioned(folder: Path) -> dict[str, bytes]:
    """The protocol's files, its version naming its content: an edited test protocol is a new version."""
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.parent.name != "__pycache__"
    }
    mark = zlib.crc32(b"".join(files.values()))
    files["protocol.yml"] = files["protocol.yml"].replace(
        b"version: 1.0.0", f'version: "1.0.{mark}"'.encode()
    )
    return files


def _member(name: str, content: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), 0o644
    return member
