"""The specification: from the claim to the file and back; the token's file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from labfleet.worker.spec import (
    REGISTRIES,
    SPEC,
    TOKEN,
    Host,
    Images,
    Packages,
    Spec,
    from_claim,
    load,
    take_token,
)

CLAIM: dict[str, Any] = {
    "lease_seconds": 60.0,
    "heartbeat_seconds": 5.0,
    "protocol": {
        "name": "x",
        "version": "1",
        "commit": "a" * 40,
        "command": ["python3", "main.py"],
        "outputs": {
            "t": {"path": "t.csv", "kind": "table", "title": "T", "description": "", "optional": True}
        },
        "needs": {"cores": 3, "memory_bytes": 1, "wall_seconds": 1, "packages": []},
    },
    "parameters": {"a": [1, {"b": None}]},
    "inputs": [{"slot": "s", "name": "s.csv", "sha256": "0" * 64, "size": 3}],
    "limits": {
        "wall_seconds": 1,
        "memory_bytes": 2,
        "log_bytes": 3,
        "output_bytes": 4,
        "processes": 5,
    },
}
PACKAGES = Packages("/srv/e", "https://pypi", r_index_urls=("https://cran", "https://bioc"))
IMAGES = Images(enabled=True, registries=("a.example", "b.example"), folder="/srv/images")
HOST = Host("https://web", None, 10, 900, ("/opt/x",), {"os": "Debian"}, packages=PACKAGES, images=IMAGES)


def test_a_claim_becomes_a_specification_and_survives_its_file(tmp_path: Path) -> None:
    spec = from_claim("t", 1, CLAIM, HOST)

    spec.save(tmp_path, "la_x")

    assert load(tmp_path) == spec
    assert (spec.cores, spec.command, spec.outputs[0].optional) == (3, ("python3", "main.py"), True)
    assert spec.base == "/api/v1/attempts/t/1"


def test_limits_that_older_or_newer_servers_name() -> None:
    assert from_claim("t", 1, CLAIM, HOST).limits.cpu_seconds is None
    limits = CLAIM["limits"] | {"cpu_seconds": 60, "something_new": 1}
    assert from_claim("t", 1, CLAIM | {"limits": limits}, HOST).limits.cpu_seconds == 60


def test_the_token_is_for_its_owner_and_read_once(tmp_path: Path, spec: Spec) -> None:
    spec.save(tmp_path, "la_secret")

    assert (tmp_path / TOKEN).stat().st_mode & 0o777 == 0o600
    assert "la_secret" not in (tmp_path / SPEC).read_text()
    assert take_token(tmp_path) == "la_secret"
    assert not (tmp_path / TOKEN).exists()
    with pytest.raises(FileNotFoundError):
        take_token(tmp_path)


@pytest.mark.parametrize("environment", [{}, {"image": None}, {"image": "a.example/b@sha256:1"}])
def test_what_opens_registries_is_written_only_for_an_image(
    tmp_path: Path, environment: dict[str, Any]
) -> None:
    claim = {**CLAIM, "protocol": {**CLAIM["protocol"], "environment": environment}}
    from_claim("t", 1, claim, HOST).save(tmp_path, "la_secret", '{"auths": "sesame"}')

    file = tmp_path / REGISTRIES
    assert file.exists() == bool(environment.get("image"))
    assert "sesame" not in (tmp_path / SPEC).read_text()
    if file.exists():
        assert file.stat().st_mode & 0o777 == 0o600
        assert file.read_text() == '{"auths": "sesame"}'


def test_a_file_of_the_release_before_is_read(tmp_path: Path) -> None:
    from_claim("t", 1, CLAIM, HOST).save(tmp_path, "la_secret")
    written = json.loads((tmp_path / SPEC).read_text())
    assert written["host"]["images"]["registries"] == ["a.example", "b.example"]
    del written["host"]["images"]
    (tmp_path / SPEC).write_text(json.dumps(written))
    assert load(tmp_path).host.images == Images()


def test_the_shepherd_starts_without_slow_modules() -> None:
    """It is started for each attempt."""
    code = "import labfleet.worker.attempt, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)

    slow = {"pydantic", "httpx", "celery", "structlog", "psutil", "jeepney", "asyncio"}
    assert not slow & set(done.stdout.split())
