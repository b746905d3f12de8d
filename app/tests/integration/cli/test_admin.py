"""The admin's commands as processes, as a playbook runs them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, Engine, func, text, update
from sqlalchemy.orm import Session, sessionmaker

from labfleet.db.models import AuditRow, EventRow, OutboxRow, Task, User, UserIdentity
from labfleet.db.upgrade import newest
from labfleet.errors import Unauthorized
from labfleet.users import second_factor, service

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
        hosts = ["{database_url.host}"]
        port = {database_url.port}
        name = "{database_url.database}"
        user = "{database_url.username}"
        [dispatcher]
        runner_urls = ["https://127.0.0.1:8443"]
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


def test_a_lost_second_factor_is_reset(run: Run, sessions: sessionmaker[Session], user: User) -> None:
    with sessions.begin() as session:
        second_factor.prepare(session, user, second_factor.box(["any"]))
        session.execute(text("UPDATE second_factors SET confirmed_at = clock_timestamp()"))
    assert run("user", "reset-second-factor", "ada").stdout == "switched off\n"
    assert run("user", "reset-second-factor", "ada").stdout == "it was off\n"
    assert run("user", "reset-second-factor", "nobody").returncode == 1


def test_a_link_to_a_provider_is_taken_away(run: Run, sessions: sessionmaker[Session], user: User) -> None:
    with sessions.begin() as session:
        row = UserIdentity(
            user_id=user.id, issuer="https://login.example.org", subject="42", name="ada there"
        )
        session.add(row)
        session.flush()
        link = str(row.id)
    assert run("user", "identities", "ada").stdout == f"{link}\thttps://login.example.org\tada there\n"
    assert run("user", "unlink", "ada", link).stdout == "unlinked\n"
    assert run("user", "identities", "ada").stdout == ""
    again = run("user", "unlink", "ada", link)
    assert (again.returncode, again.stderr.splitlines()[0]) == (
        1,
        f"Error: The user 'ada' has no link {link}.",
    )
    assert run("user", "unlink", "ada", "x").returncode == 2
    with sessions() as session:
        (entry,) = session.query(AuditRow).filter_by(action="identity.unlinked")
        assert (entry.actor, entry.via, entry.subject) == ("labfleet-admin", "command", "ada")
        assert entry.detail == {"issuer": "https://login.example.org", "identity": "42"}


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
        assert service.resolve_token(session, plain).user.name == user.name
    assert run("token", "revoke", user.name, "--name", "other").stdout == "revoked: 0\n"
    narrow = run("token", "add", user.name, "--scope", "read", "--scope", "data").stdout.strip()
    with sessions.begin() as session:
        assert service.resolve_token(session, narrow).scopes == ["read", "data"]
    assert "is for tokens of admins" in run("token", "add", user.name, "--scope", "admin").stderr
    assert run("token", "revoke", user.name).stdout == "revoked: 2\n"
    with sessions.begin() as session, pytest.raises(Unauthorized):
        service.resolve_token(session, plain)
    assert "no user 'nobody'" in run("token", "add", "nobody").stderr


def test_a_configuration_is_checked(run: Run, tmp_path: Path) -> None:
    good = run("config", "check")
    assert good.returncode == 0
    assert good.stdout.endswith("is a valid configuration of a webserver\n")
    bad = tmp_path / "bad.toml"
    bad.write_text("[web]\n[dispatcher]\nrunner_urls = ['x']\n", encoding="utf-8")
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


def test_the_self_check_tells_what_is_wrong_and_what_to_do(
    run: Run, sessions: sessionmaker[Session], user: User, make_worker: Any, make_tasks: Any
) -> None:
    make_worker("w1")
    make_worker("w2", last_seen=datetime.now(UTC) - timedelta(minutes=5))
    make_worker("w3", draining=True)
    late, lost, _ = make_tasks(user, 3)
    make_tasks(user, 2, key="r")
    with sessions.begin() as session:
        before = func.clock_timestamp() - timedelta(minutes=3)
        session.add(OutboxRow(kind="run", task_id=late, attempt=1, created_at=before, last_error="refused"))
        session.execute(update(Task).where(Task.id == lost).values(state="running", lease_until=before))
        job_id = session.get_one(Task, lost).job_id
        event = {"event": "lease_lapsed", "to_state": "queued", "detail": {"worker": "w2"}}
        session.add(EventRow(job_id=job_id, task_id=lost, attempt=1, **event))
    done = run("self-check", LABFLEET_DISPATCHER__RUNNER_URLS='["https://127.0.0.1:9"]')
    assert done.returncode == 1, done.stderr
    told = done.stdout
    # Three minutes, and as long as the check took to come to it.
    assert re.search(r"error: dispatcher: 1 messages wait for the broker, the oldest for (1[89]|2)\d", told)
    assert "The last error: refused → See that labfleet-dispatcher" in told
    assert "error: dispatcher: 1 running tasks have lost their lease over 60 s ago" in told
    assert "warning: w2: In the last hour 1 tasks were taken from it" in told
    assert re.search(r"error: w2: Nothing was heard of the worker for 3\d\d", told)
    assert "warning: w3: An admin drains the worker" in told
    assert "error: queue tier: https://127.0.0.1:9/runner/v1/health does not answer the webserver" in told
    assert "warning: queue of tasks: Tasks wait that no worker can run: key r, 1 cores" in told
    assert len(told.splitlines()) == 7
    as_json = run("self-check", "--json", LABFLEET_DISPATCHER__RUNNER_URLS='["https://127.0.0.1:9"]')
    assert as_json.returncode == 1
    assert {one["where"] for one in json.loads(as_json.stdout)} > {"w2", "w3", "dispatcher"}


def test_the_self_check_without_workers_schema_or_database(run: Run) -> None:
    assert "error: workers: No worker has ever reported." in run("self-check").stdout
    bare = run("self-check", LABFLEET_DATABASE__NAME="postgres")
    assert "error: database: The schema is at nothing, this release needs" in bare.stdout
    away = run("self-check", LABFLEET_DATABASE__PORT="9")
    assert away.returncode == 1
    assert "error: database: The database" in away.stdout
    assert "does not answer" in away.stdout
