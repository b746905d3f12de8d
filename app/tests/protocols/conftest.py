"""Run a shipped protocol as a worker does: its directory, four variables, nothing else."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from labfleet.protocols.manifest import read_manifest
from labfleet.protocols.schema import faults_of_value, with_defaults
from labfleet.worker.environments import Environments
from labfleet.worker.preparing import PYTHON

PROTOCOLS = Path(__file__).parents[2] / "protocols"


@dataclass(frozen=True)
class Run:
    """How a run ended, and what it left."""

    code: int
    out: str
    error: str
    outputs: Path
    progress: list[tuple[float, str]]

    @property
    def reason(self) -> str:
        """The last line on standard error, which a user is shown."""
        return self.error.strip().splitlines()[-1] if self.error.strip() else ""


@pytest.fixture(scope="session")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, str]]:
    """`libraries(name)`: variables by which a run has the packages of the protocol's lock file.

    Built as workers do it, once for all processes of this run.
    """
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    kept = Environments(shared / "environments")
    found: dict[str, dict[str, str]] = {}

    def of(name: str) -> dict[str, str]:
        lock = read_manifest((PROTOCOLS / name / "protocol.yml").read_bytes()).environment.python
        if not lock:
            return {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", "PYTHONWARNINGS": "error"}
        path = PROTOCOLS / name / lock
        key = hashlib.sha256(path.read_bytes()).hexdigest()
        if key not in found:
            # In use, and so kept, until this process ends.
            built = kept.obtain(key, lambda target: install(path, target), lambda: time.sleep(0.2)).path
            found[key] = {
                "PATH": f"{built}/bin:{os.environ['PATH']}",
                "PYTHONPYCACHEPREFIX": str(shared / "compiled"),
                # What compiling the modules of others warns of is theirs.
                "PYTHONWARNINGS": "error,ignore::SyntaxWarning",
            }
        return found[key]

    return of


def install(lock: Path, target: Path) -> dict[str, object]:
    """The packages of a lock file for the Python of workers."""
    uv = str(Path(sys.prefix, "bin", "uv"))
    subprocess.run([uv, "venv", "--quiet", "--allow-existing", "--python", PYTHON, str(target)], check=True)
    command = [uv, "pip", "install", "--quiet", "--python", f"{target}/bin/python"]
    command += ["--require-hashes", "--only-binary", ":all:", "-r", str(lock)]
    subprocess.run(command, check=True)
    return {"bytes": 0}


@pytest.fixture
def run_protocol(tmp_path: Path, libraries: Callable[[str], dict[str, str]]) -> Callable[..., Run]:
    """`run_protocol(name, command, parameters, slot=content …)`."""

    def run(name: str, command: list[str], parameters: dict[str, Any], **inputs: bytes) -> Run:
        for directory in ("inputs", "outputs", "tmp"):
            shutil.rmtree(tmp_path / directory, ignore_errors=True)
            (tmp_path / directory).mkdir()
        (tmp_path / "progress").unlink(missing_ok=True)
        (tmp_path / "parameters.json").write_text(json.dumps(parameters))
        for slot, content in inputs.items():
            (tmp_path / "inputs" / slot).write_bytes(content)
        environment = {
            **libraries(name),
            "LANG": "C.UTF-8",
            "LABFLEET_PARAMETERS": str(tmp_path / "parameters.json"),
            "LABFLEET_INPUTS": str(tmp_path / "inputs"),
            "LABFLEET_OUTPUTS": str(tmp_path / "outputs"),
            "LABFLEET_PROGRESS": str(tmp_path / "progress"),
            "TMPDIR": str(tmp_path / "tmp"),
        }
        done = subprocess.run(
            command,
            cwd=PROTOCOLS / name,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        return Run(
            done.returncode, done.stdout, done.stderr, tmp_path / "outputs", told(tmp_path / "progress")
        )

    return run


@pytest.fixture
def run_shipped(run_protocol: Callable[..., Run]) -> Callable[..., Run]:
    """`run_shipped(name, parameters, slot=content …)`: with its manifest's command and defaults."""

    def run(name: str, parameters: dict[str, Any] | None = None, /, **inputs: bytes) -> Run:
        manifest = read_manifest((PROTOCOLS / name / "protocol.yml").read_bytes())
        filled = with_defaults(manifest.parameters, parameters or {})
        assert not faults_of_value(manifest.parameters, filled)
        return run_protocol(name, list(manifest.command), filled, **inputs)

    return run


def told(path: Path) -> list[tuple[float, str]]:
    """The progress that a run told."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [(float(line.split(" ", 1)[0]), line.split(" ", 1)[1]) for line in lines]
