"""What a program in a sandbox tries, to see more and to take more than it may; and that it could not."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

LIMITS = {"output_bytes": 400 * 1024**2, "memory_bytes": 256 * 1024**2, "processes": 20}
"""Of an attempt that runs `GRABS`."""
PROBE = """
import json, os, sys
findings = {}
def probe(name, action):
    try:
        findings[name] = repr(action())
    except BaseException as error:
        findings[name] = f"{type(error).__name__}: {error}"
"""
LOOKS = """
import socket, subprocess, glob
probe("network", lambda: socket.create_connection(("127.0.0.1", 22), 1))
probe("interfaces", lambda: sorted(n for _, n in socket.if_nameindex()))
probe("processes", lambda: len(glob.glob("/proc/[0-9]*")))
probe("environment", lambda: sorted(os.environ))
probe("root", lambda: sorted(os.listdir("/")))
probe("etc", lambda: sorted(os.listdir("/etc")))
probe("shadow", lambda: open("/etc/shadow").read())
probe("user", lambda: (os.getuid(), __import__("pwd").getpwuid(os.getuid()).pw_name))
probe("userns", lambda: subprocess.run(["unshare", "-U", "true"], capture_output=True).returncode)
probe("mount", lambda: subprocess.run(["mount", "-t", "tmpfs", "x", "/tmp"], capture_output=True).returncode)
probe("hostname", socket.gethostname)
probe("ptrace", lambda: os.kill(1, 0))
for path in ("/x", "/dev/x", "/etc/x", "/usr/x", "/labfleet/x", "/labfleet/protocol/x", "/labfleet/inputs/x"):
    probe(path, lambda: open(path, "w"))
"""
GRABS = """
import time
def forks():
    for count in range(1000):
        if os.fork() == 0:
            time.sleep(20)
            os._exit(0)
def fill(path):
    with open(path, "wb") as file:
        for _ in range(1000):
            file.write(b"x" * 2**20)
probe("file", lambda: fill(os.environ["LABFLEET_OUTPUTS"] + "/big"))
os.remove(os.environ["LABFLEET_OUTPUTS"] + "/big")
probe("scratch", lambda: [fill(f"/tmp/{n}") for n in range(1000)])
probe("shared memory", lambda: [fill(f"/dev/shm/{n}") for n in range(1000)])
probe("forks", forks)
"""


def findings(shepherd: Callable[..., Any], code: str, **values: Any) -> dict[str, str]:
    """What the code's probes came to, in an attempt."""
    code = f"{PROBE}{code}\nprint(json.dumps(findings))"
    run = shepherd(code, **values)
    assert run.wait(60)["outcome"] == "success", (run.attempt.finish, run.attempt.log)
    found: dict[str, str] = json.loads(run.attempt.log.splitlines()[-1])
    return found


def require_hidden(found: dict[str, str]) -> None:
    """Of `LOOKS`."""
    assert "Error" in found["network"]
    assert found["interfaces"] == "['lo']"
    assert int(found["processes"]) <= 4
    assert not {"PYTHONPATH", "CREDENTIALS_DIRECTORY", "DBUS_SESSION_BUS_ADDRESS"} & set(found["environment"])
    assert "home" not in found["root"]
    assert "root" not in found["root"].replace("'sbin'", "")
    assert "run" not in found["root"]
    assert "shadow" not in found["etc"]
    assert "FileNotFoundError" in found["shadow"]
    assert found["user"] == "(1000, 'scientist')"
    assert found["userns"] == "1"
    assert found["mount"] != "0"
    assert found["hostname"] == "'sandbox'"
    for path in (
        "/x",
        "/dev/x",
        "/etc/x",
        "/usr/x",
        "/labfleet/x",
        "/labfleet/protocol/x",
        "/labfleet/inputs/x",
    ):
        assert "Read-only" in found[path], path


def require_bounded(found: dict[str, str]) -> None:
    """Of `GRABS`."""
    assert "File too large" in found["file"]
    assert "No space left" in found["scratch"]
    assert "No space left" in found["shared memory"]
    assert "BlockingIOError" in found["forks"]
