"""What roles/webserver asks of a certificate of one's own before it changes anything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[3]
ASKED = (
    "Preflight | A certificate of another kind is for some names",
    "Preflight | Read your certificate",
    "Preflight | Read its key",
    "Preflight | They belong together, and the certificate is good",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A play of the role's own questions, and two certificates with their keys."""
    made = tmp_path_factory.mktemp("certificate")
    tasks = yaml.safe_load((ROOT / "roles/webserver/tasks/preflight.yml").read_text())
    asked = [task for task in tasks if task["name"] in ASKED]
    assert len(asked) == len(ASKED)
    play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": asked}
    (made / "play.yml").write_text(yaml.safe_dump([play]))
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    for name in ("good", "other"):
        files = ("-keyout", str(made / f"{name}.key"), "-out", str(made / f"{name}.crt"))
        command = ["openssl", "req", "-x509", *curve, "-days", "9", "-subj", f"/CN={name}", *files]
        subprocess.run(command, check=True, capture_output=True)
    return made


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("good.key", ""),
        ("other.key", "good.crt is of another key than"),
        ("", "name the names it is for in webserver_certificate_names, and for 'own' the files"),
    ],
)
def test_certificate_and_key(folder: Path, key: str, said: str) -> None:
    given = {
        "webserver_certificate": "own",
        "webserver_certificate_names": ["labfleet.test"],
        "webserver_certificate_file": str(folder / "good.crt"),
        "webserver_certificate_key_file": str(folder / key) if key else "",
        "webserver_no_log": True,
    }
    program = Path(sys.executable).parent / "ansible-playbook"
    command = [str(program), "-i", "localhost,", "play.yml", "-e", json.dumps(given)]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == (not said), done.stdout + done.stderr
    assert said in " ".join(done.stdout.split())
