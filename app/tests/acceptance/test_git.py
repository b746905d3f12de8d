"""A protocol by git, through nginx and its TLS, and then run."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from .api import Api
from .lab import BIN, Lab

NAME = "acceptance-pushed"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "main.py").write_text("print('pushed')\n")
    return tmp_path


def test_push_check_and_run(user: Api, lab: Lab, tree: Path) -> None:
    environment = {
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "HOME": str(tree),
        "LC_ALL": "C",
        "GIT_TERMINAL_PROMPT": "0",
        "LABFLEET_URL": lab.url,
        "LABFLEET_TOKEN": user.token,
        "LABFLEET_CA_FILE": str(lab.ca_file),
    }

    def git(*arguments: str, code: int = 0) -> str:
        settings = ["user.name=A", "user.email=a@localhost", f"http.sslCAInfo={lab.ca_file}"]
        settings.append("credential.helper=!labfleet git-credential")
        options = [part for setting in settings for part in ("-c", setting)]
        done = subprocess.run(
            ["git", *options, *arguments],
            cwd=tree,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    version = f"1.0.{time.time_ns()}"
    manifest = f"labfleet: 1\nname: {NAME}\nversion: {version}\ntitle: Pushed\nkey: python\n"
    manifest += "command: [python3, %s]\n"
    remote = f"{lab.url}/git/{NAME}.git"
    git("init", "-q", "-b", "main")
    (tree / "protocol.yml").write_text(manifest % "absent.py")
    git("add", "protocol.yml", "main.py")
    git("commit", "-q", "-m", "one")
    refused = git("push", "--force", remote, "main", code=1)
    assert "protocol.yml:6: command: 'absent.py' is not in the protocol." in refused
    (tree / "protocol.yml").write_text(manifest % "main.py")
    git("commit", "-q", "-a", "-m", "two")
    git("push", "--force", remote, "main")
    commit = git("rev-parse", "HEAD").strip()
    task = user.wait(user.submit(NAME, version=version))
    assert (task["state"], task["commit"]) == ("success", commit), task
