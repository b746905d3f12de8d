"""The program by which a machine joins: a shell takes it, no secret is on a command line."""

from __future__ import annotations

import base64
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

ROOT = Path(__file__).resolve().parents[3]
TOKEN, KEY = "lj_" + "t" * 43, "k" * 64
VALUES: dict[str, Any] = {
    "ansible_managed": "Ansible managed",
    "inventory_hostname": "worker9",
    "labfleet_front_address": "10.0.0.5",
    "labfleet_tls_directory": "/tls",
    "invite_debian": "13",
    "invite_architecture": "x86_64",
    "invite_archive": {"sha256": "0" * 64, "key": KEY},
    "invite_token": {"stdout": TOKEN},
}


def rendered(name: str) -> str:
    environment = Environment(
        loader=FileSystemLoader(ROOT / "playbooks" / "templates"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
    )
    environment.filters["quote"] = lambda text: f"'{text}'"
    environment.filters["b64encode"] = lambda text: base64.b64encode(text.encode()).decode()

    def lookup(kind: str, what: str) -> str:
        return (
            "-----A CERTIFICATE-----"
            if kind == "ansible.builtin.file"
            else rendered(what.removesuffix(".j2"))
        )

    return environment.get_template(f"{name}.j2").render(**VALUES, lookup=lookup)


def program(text: str) -> str:
    """The part of it that is Python."""
    _, _, rest = text.partition('python3 - "')
    return rest.partition("<<'END'\n")[2].partition("\nEND\n")[0]


def test_a_shell_takes_it(tmp_path: Path) -> None:
    path = tmp_path / "join.sh"
    path.write_text(rendered("join.sh"))
    subprocess.run(["sh", "-n", str(path)], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", "--exclude", "SC1091", str(path)], check=True)


def test_what_is_python_in_it_is_python() -> None:
    compile(program(rendered("join.sh")), "join.sh", "exec")
    assert "Authorization" in program(rendered("join.sh"))


@pytest.mark.parametrize("secret", [TOKEN, KEY])
def test_secrets_are_in_files_that_only_root_reads(secret: str) -> None:
    lines = rendered("join.sh").splitlines()
    (place,) = [number for number, line in enumerate(lines) if secret in line]
    assert lines[place] == secret
    assert lines[place - 1].startswith("    cat >")
    assert lines.index("umask 077") < place


def test_cloud_init_writes_and_runs_it() -> None:
    text = rendered("user-data")
    assert text.startswith("#cloud-config\n")
    given = yaml.safe_load(text)
    (file,) = given["write_files"]
    assert (file["permissions"], file["owner"]) == ("0700", "root:root")
    assert base64.b64decode(file["content"]).decode() == rendered("join.sh")
    assert file["path"] in given["runcmd"][0][-1]


def test_it_refuses_another_system_before_anything_changes(tmp_path: Path) -> None:
    """What stands before the first change, on a system that is another one."""
    text = rendered("join.sh")
    head = text.partition("mkdir -p")[0]
    (tmp_path / "os-release").write_text('ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian 12"\n')
    script = head.replace("/etc/os-release", str(tmp_path / "os-release")).replace("$(id -u)", "0")
    done = subprocess.run(["sh"], input=script, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "This is Debian 12, and the invitation is for Debian 13." in done.stderr
