"""The check of a bill of materials: what it says of findings, of none, and of a database that is away."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

PROGRAM = Path(__file__).parents[3] / "roles" / "app" / "files" / "known_vulnerabilities.py"


class Database(BaseHTTPRequestHandler):
    """Answers as osv.dev does, of the packages that it knows."""

    known: ClassVar[dict[str, list[str]]] = {"pkg:pypi/old@1.0": ["PYSEC-2", "GHSA-1"]}

    def do_POST(self) -> None:
        queries = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["queries"]
        answers = [self.known.get(query["package"]["purl"], []) for query in queries]
        body = json.dumps(
            {"results": [{"vulns": [{"id": one} for one in ids]} if ids else {} for ids in answers]}
        )
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def database() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Database)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def check(folder: Path, database: str, *names: str) -> tuple[int, str]:
    listing = [{"name": name, "version": "1.0", "purl": f"pkg:pypi/{name}@1.0"} for name in names]
    (folder / "sbom.json").write_text(json.dumps({"components": listing}))
    command = [sys.executable, str(PROGRAM), str(folder / "sbom.json"), "--database", database]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_findings(tmp_path: Path, database: str) -> None:
    code, said = check(tmp_path, database, "new", "old", "other")
    assert code == 1
    assert said.splitlines() == [
        "old 1.0: GHSA-1, PYSEC-2 (https://osv.dev/vulnerability/GHSA-1)",
        "3 packages, 1 with known vulnerabilities.",
    ]


def test_none(tmp_path: Path, database: str) -> None:
    assert check(tmp_path, database, "new") == (0, "1 packages, 0 with known vulnerabilities.\n")


def test_away(tmp_path: Path) -> None:
    code, said = check(tmp_path, "http://127.0.0.1:9", "new", "old")
    assert code == 3
    assert "nothing is known of 2 packages" in said
