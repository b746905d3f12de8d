"""A real `vagrant up` of the shipped Vagrantfile: a job, an edit that shows, a second provisioning, destroy.

Needs Debian's `vagrant` and either a Docker engine or podman. Works on a copy of the tree, so that the
edit harms nothing.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[3]
SHIM = Path(__file__).parent / "bin"
LEFT_OUT = shutil.ignore_patterns(".git", ".lab", ".vagrant", "secrets", "__pycache__", ".*_cache")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def docker_engine_answers() -> bool:
    docker = shutil.which("docker")
    return (
        docker is not None
        and subprocess.run([docker, "info"], capture_output=True, check=False).returncode == 0
    )


class Machine:
    """The vagrant machine of one copy of the tree."""

    def __init__(self, tree: Path) -> None:
        self.tree = tree
        self.port = free_port()
        path = os.environ["PATH"] if docker_engine_answers() else f"{SHIM}:{os.environ['PATH']}"
        self.environment = {
            **os.environ,
            "PATH": path,
            "LABFLEET_HTTPS_PORT": str(self.port),
            "HOME": str(tree.parent),
            "VAGRANT_HOME": str(tree.parent / "vagrant.d"),
        }

    def vagrant(self, *arguments: str) -> str:
        done = subprocess.run(
            ["vagrant", *arguments],
            cwd=self.tree,
            env=self.environment,
            text=True,
            capture_output=True,
            check=False,
        )
        print(done.stdout[-20_000:], done.stderr[-5_000:])
        assert done.returncode == 0, f"vagrant {' '.join(arguments)} failed, see its output above"
        return done.stdout

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    @property
    def secrets(self) -> Path:
        return self.tree / ".vagrant/provisioners/ansible/inventory/secrets"

    def labfleet(self, *arguments: str) -> str:
        command = [str(ROOT / ".lab/venv/bin/labfleet"), *arguments]
        done = subprocess.run(command, env=self.environment, text=True, capture_output=True, check=False)
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    tree = tmp_path_factory.mktemp("vagrant") / "labfleet"
    shutil.copytree(ROOT, tree, ignore=LEFT_OUT, symlinks=True)
    (tree / ".lab").symlink_to(ROOT / ".lab")
    raised = Machine(tree)
    try:
        raised.vagrant("up", "--provider=docker")
        yield raised
    finally:
        raised.vagrant("destroy", "--force")


def test_a_job_runs_on_the_machine(machine: Machine) -> None:
    table = machine.tree / "table.csv"
    table.write_text("patient,age\nA,41\nB,57\n")
    password, authority = str(machine.secrets / "admin_password"), str(machine.secrets / "tls/ca.crt")
    who = ("--user", "admin", "--password-file", password, "--ca-file", authority)
    machine.labfleet("login", machine.url, *who)
    shown = machine.labfleet("submit", "table-summary", "--input", f"table=@{table}", "--watch")
    assert "success" in shown


def test_an_edit_shows_without_provisioning(machine: Machine) -> None:
    page = machine.tree / "app/src/labfleet/web/api/machines.py"
    before = page.read_text()
    after = before.replace('version=version("labfleet")', 'version="0.0.0+edited"')
    assert before != after
    page.write_text(after)

    shown: object = None
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        # A request that comes while the application starts anew may be lost: the next one is not.
        with suppress(httpx.TransportError):
            shown = httpx.get(f"{machine.url}/api/v1/health", verify=False, timeout=10).json()
            if isinstance(shown, dict) and shown.get("version") == "0.0.0+edited":
                return
        time.sleep(0.5)
    pytest.fail(f"the edit did not show within 120 s: {shown}")


def test_provisioning_again_changes_nothing(machine: Machine) -> None:
    output = machine.vagrant("provision")
    recap = re.search(r"lab\s+: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", output)
    assert recap is not None, "no recap in the output of vagrant provision"
    assert recap.groups()[1:] == ("0", "0", "0")
