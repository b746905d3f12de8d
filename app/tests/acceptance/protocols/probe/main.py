"""Tries to reach what a sandbox must keep away, and writes what came of each try as JSON."""

import ctypes
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

parameters = json.loads(Path(os.environ["LABFLEET_PARAMETERS"]).read_text())


def outcome(act: Callable[[], object]) -> str:
    try:
        return f"ok: {act()}"[:300]
    except (OSError, ValueError) as error:
        return f"refused: {error}"


def connect(address: str) -> object:
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=2) as connection:
        return connection.getpeername()


def write(path: Path) -> object:
    path.write_text("was here")
    path.unlink()
    return "written"


def listing(path: str) -> object:
    if Path(path).is_dir():
        return sorted(entry.name for entry in Path(path).iterdir())
    with Path(path).open("rb") as stream:
        return stream.read(40)


def unshare() -> object:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(0x10000000) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    return "new user namespace"


def setuid_files() -> list[str]:
    found = []
    for folder in ("/usr/bin", "/usr/sbin", "/usr/lib"):
        for path in Path(folder).iterdir():
            if path.is_file() and path.stat().st_mode & 0o6000:
                found.append(str(path))
    return found


def capabilities() -> dict[str, str]:
    lines = Path("/proc/self/status").read_text().splitlines()
    return {
        line.split(":")[0]: line.split()[1]
        for line in lines
        if line.startswith(("Cap", "NoNewPrivs", "Seccomp:"))
    }


def processes() -> dict[str, str]:
    numbers = [path.name for path in Path("/proc").iterdir() if path.name.isdigit()]
    return {
        name: Path("/proc", name, "cmdline").read_bytes().replace(b"\0", b" ").decode() for name in numbers
    }


folder = Path.cwd()
report = {
    "network": {address: outcome(lambda a=address: connect(a)) for address in parameters["addresses"]},
    "interfaces": sorted(name for _, name in socket.if_nameindex()),
    "paths": {path: outcome(lambda p=path: listing(p)) for path in parameters["paths"]},
    "writes": {
        str(path): outcome(lambda p=path: write(p))
        for path in (
            folder / "x",
            Path("/etc/x"),
            Path("/usr/bin/x"),
            Path("/x"),
            Path(os.environ["LABFLEET_INPUTS"], "x"),
            Path(os.environ["LABFLEET_OUTPUTS"], "x"),
            Path(os.environ["TMPDIR"], "x"),
        )
    },
    "processes": processes(),
    "environment": dict(os.environ),
    "ids": [os.getuid(), os.getgid(), os.getgroups()],
    "capabilities": capabilities(),
    "unshare": outcome(unshare),
    "setuid": setuid_files(),
    "sockets": sorted(str(path) for path in Path("/run").rglob("*") if path.is_socket())
    if Path("/run").is_dir()
    else [],
    "inputs": os.environ["LABFLEET_INPUTS"],
    "outputs": os.environ["LABFLEET_OUTPUTS"],
    "folder": str(folder),
}
Path(os.environ["LABFLEET_OUTPUTS"], "report.json").write_text(json.dumps(report, indent=1))
