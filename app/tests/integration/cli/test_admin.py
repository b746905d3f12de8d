"""The admin's commands as processes, as a playbook runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import URL, Engine
from sqlalchemy.orm import Session, sessionmaker

from labfleet.db.models import User
from labfleet.db.upgrade import newest
from labfleet.errors import Unauthorized
from labfleet.users import service

Run = Callable[..., subprocess.CompletedProcess[str]]
PASSWORD = "a long enough password"


@pytest.fixture
def run(tmp_path: Path, database_url: URL, engine: Engine) -> Run:
    """Run `labfleet …` with a configuration for the (empty) test database."""
    (tmp_path / "database_password").write_text(database_url.password or "", encoding="utf-8")
    (tmp_path / "owner_password").write_text(database_url.password or "", encoding="utf-8")
    (tmp_path / "webserver.toml").write_text(
        f"""
        [web]
        public_url = "https://127.0.0.1"
        [database]
        host = "{database_url.host}"
        port = {database_url.port}
        name = "{database_url.database}"
        user = "{database_url.username}"
        [dispatcher]
        runner_url = "https://127.0.0.1:8443"
        """,
        encoding="utf-8",
    )
    environment = {
        **os.environ,
        "LABFLEET_CONFIG": str(tmp_path / "webserver.toml"),
        "CREDENTIALS_DIRECTORY": str(tmp_path),
    }

    def run(*arguments: str, stdin: str = "", **overrides: str) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).with_name("labfleet")), *arguments]
        return subprocess.run(
            command,
            env=environment | overrides,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    return run


def test_a_schema_that_is_there_is_left_unchanged(run: Run, database_url: URL) -> None:
    done = run("db", "upgrade", "--user", database_url.username or "")
    assert (done.returncode, done.stdout.split(":")[0]) == (0, "unchanged")
    done = run("db", "current")
    assert (done.returncode, done.stdout) == (0, f"{newest()} (this release needs {newest()})\n")


def test_a_user_is_added_once_and_can_sign_in(run: Run, sessions: sessionmaker[Session]) -> None:
    add = ("user", "add", "ada", "--admin", "--password-file", "-", "--if-missing")
    assert run(*add, stdin=PASSWORD + "\n").stdout == "created\n"
    assert run(*add, stdin="another password\n").stdout == "exists\n"
    refused = run("user", "add", "ada", "--password-file", "-", stdin=PASSWORD)
    assert refused.returncode == 1
    assert refused.stderr.startswith("Error: There is a user 'ada' already.\nHint:")
    with sessions() as session:
        assert service.authenticate(session, "ada", PASSWORD).is_admin
    assert run("user", "list").stdout.startswith("ada\tadmin\t")


def test_a_password_comes_from_a_file_or_a_terminal(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text(PASSWORD, encoding="utf-8")
    assert run("user", "add", "bob", "--password-file", str(path)).stdout == "created\n"
    assert "--password-file" in run("user", "add", "eve").stderr
    missing = run("user", "add", "eve", "--password-file", "/nonexistent")
    assert missing.returncode == 1
    assert "/nonexistent can't be read" in missing.stderr
    short = run("user", "add", "eve", "--password-file", "-", stdin="short")
    assert "12 to 1024 characters" in short.stderr


def test_tokens_are_made_and_revoked(run: Run, user: User, sessions: sessionmaker[Session]) -> None:
    plain = run("token", "add", user.name, "--name", "robot", "--days", "1").stdout.strip()
    with sessions.begin() as session:
        assert service.resolve_token(session, plain).name == user.name
    assert run("token", "revoke", user.name, "--name", "other").stdout == "revoked: 0\n"
    assert run("token", "revoke", user.name).stdout == "revoked: 1\n"
    with sessions.begin() as session, pytest.raises(Unauthorized):
        service.resolve_token(session, plain)
    assert "no user 'nobody'" in run("token", "add", "nobody").stderr


def test_a_configuration_is_checked(run: Run, tmp_path: Path) -> None:
    good = run("config", "check")
    assert good.returncode == 0
    assert good.stdout.endswith("is a valid configuration of a webserver\n")
    bad = tmp_path / "bad.toml"
    bad.write_text("[web]\n[dispatcher]\nrunner_url = 'x'\n", encoding="utf-8")
    done = run("config", "check", LABFLEET_CONFIG=str(bad))
    assert done.returncode == 1
    assert "[web] public_url: is required" in done.stderr
    assert "Traceback" not in done.stderr
    unset = run("config", "check", LABFLEET_CONFIG="")
    assert "LABFLEET_CONFIG is not set" in unset.stderr


def test_a_database_that_does_not_answer_or_lacks_the_schema_is_one_line(run: Run, tmp_path: Path) -> None:
    away = run("user", "list", LABFLEET_DATABASE__PORT="9")
    assert away.returncode == 1
    assert "does not answer" in away.stderr
    assert "Traceback" not in away.stderr
    bare = run("user", "list", LABFLEET_DATABASE__NAME="postgres")
    assert 'relation "users" does not exist' in bare.stderr
    assert "labfleet db upgrade" in bare.stderr
    (tmp_path / "database_password").write_text("wrong password", encoding="utf-8")
    wrong = run("db", "current")
    assert "password authentication failed" in wrong.stderr
    assert "wrong password" not in wrong.stderr
