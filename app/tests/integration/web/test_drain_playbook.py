"""playbooks/drain.yml against the real web application on its socket, all on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, select, update
from sqlalchemy.orm import Session, sessionmaker

from labfleet.db.models import Task, Token, User, WorkerRow
from labfleet.web.services import Services

ROOT = Path(__file__).parents[4]
PROGRAMS = Path(sys.executable).parent
Sessions = sessionmaker[Session]
Play = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def play(
    parts: Services, credentials: Path, database_url: URL, tmp_path: Path, admin: User
) -> Iterator[Play]:
    """Run the playbook with more arguments, while the application listens on a socket."""
    (credentials / "database_password").write_text(database_url.password or "", encoding="utf-8")
    (tmp_path / "webserver.toml").write_text(
        f"""
        [web]
        public_url = "http://127.0.0.1"
        store = "{parts.store.root}"
        protocols = "{parts.settings.web.protocols}"
        behind_nginx = false
        [database]
        hosts = ["{database_url.host}"]
        port = {database_url.port or 5432}
        name = "{database_url.database}"
        user = "{database_url.username}"
        [dispatcher]
        runner_urls = ["https://127.0.0.1:9"]
        """,
        encoding="utf-8",
    )
    machine = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    groups = {"worker": {"hosts": {"w1": machine, "w2": machine}}, "webserver": {"hosts": {"web1": machine}}}
    (tmp_path / "hosts.json").write_text(json.dumps({"all": {"children": groups}}), encoding="utf-8")
    listening = tmp_path / "web.sock"
    program = [PROGRAMS / "gunicorn", "--worker-class", "gthread", "--threads", "2", "--no-control-socket"]
    with (tmp_path / "gunicorn.log").open("wb") as log:
        web = subprocess.Popen(
            [*program, "--bind", f"unix:{listening}", "labfleet.web:create_app()"], stderr=log
        )
        deadline = time.monotonic() + 90
        while not listening.exists() and web.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)

        def play(*arguments: str) -> subprocess.CompletedProcess[str]:
            values = {
                "ansible_become": False,
                "drain_socket": str(listening),
                "drain_admin": admin.name,
                "drain_admin_command": str(PROGRAMS / "labfleet"),
                "drain_poll_seconds": 1,
                "drain_wait_seconds": 60,
            }
            command = [PROGRAMS / "ansible-playbook", "-i", tmp_path / "hosts.json", "playbooks/drain.yml"]
            return subprocess.run(
                [*command, "-e", json.dumps(values), *arguments],
                cwd=ROOT,
                env={**os.environ, "ANSIBLE_HOME": str(tmp_path / "ansible"), "ANSIBLE_NOCOLOR": "1"},
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )

        try:
            yield play
        finally:
            web.terminate()
            web.wait(60)


def draining(sessions: Sessions) -> dict[str, bool]:
    with sessions() as session:
        return {row.name: row.draining for row in session.scalars(select(WorkerRow))}


def live_tokens(sessions: Sessions) -> int:
    with sessions() as session:
        return len(session.scalars(select(Token.id).where(Token.revoked_at.is_(None))).all())


def test_it_drains_waits_and_lets_work_again(
    play: Play, sessions: Sessions, user: User, make_worker: Any, make_tasks: Any
) -> None:
    make_worker("w1")
    make_worker("w2")
    [task_id] = make_tasks(user)
    with sessions.begin() as session:
        session.execute(update(Task).values(placed_on="w1", state="running"))

    def end() -> None:
        while not draining(sessions)["w1"]:
            time.sleep(0.1)
        time.sleep(1.5)
        with sessions.begin() as session:
            session.execute(update(Task).where(Task.id == task_id).values(state="success"))

    ending = threading.Thread(target=end)
    ending.start()
    drained = play("--limit", "w1")
    with sessions() as session:
        assert session.scalar(select(Task.state)) == "success", drained.stdout
    ending.join()
    assert drained.returncode == 0, drained.stdout + drained.stderr
    assert draining(sessions) == {"w1": True, "w2": False}
    again = play("--limit", "w1")
    assert "changed=0" in again.stdout, again.stdout
    resumed = play("--limit", "w1", "-e", "drain_state=resumed")
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert draining(sessions) == {"w1": False, "w2": False}
    assert live_tokens(sessions) == 0
    assert "lf_" not in drained.stdout + again.stdout + resumed.stdout


def test_it_drains_nothing_that_is_not_named(play: Play, sessions: Sessions, make_worker: Any) -> None:
    make_worker("w1")
    whole = play()
    assert whole.returncode != 0
    assert "Name the workers with --limit" in whole.stdout
    unknown = play("--limit", "w2")
    assert unknown.returncode != 0
    assert "The webserver knows no worker 'w2'." in unknown.stdout
    assert draining(sessions) == {"w1": False}
    assert live_tokens(sessions) == 0
