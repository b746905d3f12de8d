"""The program that tells of certificates and backups on machines that have no release."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import ModuleType

import pytest
from by_path import load


@pytest.fixture(scope="module")
def program() -> ModuleType:
    return load("roles/monitoring/files/labfleet-figures.py")


def test_certificates_are_told_and_what_is_none_is_left_out(
    program: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = tmp_path / "good.pem", tmp_path / "bad.crt"
    key = tmp_path / "key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-subj", "/CN=a", "-days", "5", "-keyout", str(key), "-out", str(good)]
    subprocess.run(command, check=True, capture_output=True)
    # As HAProxy has it: the key may stand before the certificate.
    good.write_text(key.read_text() + good.read_text())
    bad.write_text("no certificate")
    told = list(program.certificates([good, bad, tmp_path / "absent"]))
    assert [line for line in told if not line.startswith("#")] == [
        f'labfleet_certificate_end_seconds{{file="{good}"}} {program.end(good)}'
    ]
    complaints = capsys.readouterr().err
    assert "bad.crt can't be read" in complaints
    assert "absent can't be read" in complaints


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (json.dumps({"succeeded_at": 1700000000.4}), "1700000000"),
        (json.dumps({"succeeded_at": None}), "0"),
        ("[]", "0"),
        ("{", "0"),
    ],
)
def test_the_backup_s_word(program: ModuleType, tmp_path: Path, status: str, expected: str) -> None:
    path = tmp_path / "status.json"
    assert list(program.backup(path)) == list(program.backup(None)) == []
    path.write_text(status)
    assert list(program.backup(path))[-1] == f"labfleet_backup_success_seconds {expected}"


def test_the_file_is_whole_and_everybody_may_read_it(program: ModuleType, tmp_path: Path) -> None:
    out = tmp_path / "labfleet.prom"
    program.replace(out, "a 1\n")
    program.replace(out, "a 2\n")
    assert [path.name for path in tmp_path.iterdir()] == ["labfleet.prom"]
    assert out.read_text() == "a 2\n"
    assert out.stat().st_mode & 0o777 == 0o644
