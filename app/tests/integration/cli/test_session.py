from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from ldap_server import PASSWORD as PASSWORD_THERE
from ldap_server import SERVICE, SERVICE_PASSWORD, SUFFIX, slapd
from sqlalchemy.orm import Session, sessionmaker

from labfleet.db.models import SecondFactor
from labfleet.users import second_factor
from labfleet.users.service import get_user, issue_token

Run = Callable[..., Any]
PASSWORD = "a long enough password"


def test_login_keeps_the_token_for_this_user_only(
    server: Any, account: None, run: Run, tmp_path: Path
) -> None:
    ended = run("login", server.url, "--user", "ada", "--password-file", "-", stdin=PASSWORD)
    assert ended.code == 0, ended.err
    path = tmp_path / "config/labfleet/credentials.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert '"token": "lf_' in path.read_text()
    assert PASSWORD not in path.read_text()
    assert run("jobs").code == 0


def test_password_from_a_file(server: Any, account: None, run: Run, tmp_path: Path) -> None:
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    assert run("login", server.url, "--user", "ada", "--password-file", str(tmp_path / "password")).code == 0


def test_a_token_of_the_page_is_kept_without_a_password(
    server: Any, account: None, run: Run, sessions: sessionmaker[Session], tmp_path: Path
) -> None:
    with sessions.begin() as db:
        token = issue_token(db, get_user(db, "ada"), "of the page")
    ended = run("login", server.url, "--token-file", "-", stdin=f"{token}\n")
    assert ended.code == 0 and "as ada" in ended.out, ended.err
    assert f'"token": "{token}"' in (tmp_path / "config/labfleet/credentials.json").read_text()
    assert run("jobs").code == 0
    for wrong, words in (("lf_of-nobody", "unknown, expired or revoked"), ("", "The token is empty")):
        refused = run("login", server.url, "--token-file", "-", stdin=wrong)
        assert refused.code == 1 and words in refused.err and "Traceback" not in refused.err
    assert run("jobs").code == 0  # the good one is still there


@pytest.fixture
def directory(settings_file: Path, tmp_path: Path) -> Iterator[None]:
    """A directory that runs, and a configuration that names it."""
    (tmp_path / "directory").mkdir()
    with slapd(tmp_path / "directory") as running:
        (tmp_path / "credentials/ldap_password").write_text(f"{SERVICE_PASSWORD}\n")
        section = {"urls": [running.url], "base_dn": SUFFIX, "bind_dn": SERVICE, "ca_file": str(running.ca)}
        lines = [f"{key} = {json.dumps(value)}" for key, value in {**section, "accounts": True}.items()]
        settings_file.write_text("\n".join([settings_file.read_text(), "[ldap]", *lines]))
        yield


def test_a_name_and_password_of_a_directory(directory: None, server: Any, run: Run) -> None:
    command = ("login", server.url, "--user", "grace", "--password-file", "-")
    assert "The name or the password is wrong." in run(*command, stdin="wrong").err
    ended = run(*command, stdin=PASSWORD_THERE)
    assert ended.code == 0, ended.err
    assert run("jobs").code == 0


@pytest.mark.parametrize(
    ("password", "text"),
    [("wrong", "Error:"), ("", "The password is empty"), ("\n", "The password is empty")],
)
def test_a_wrong_password(server: Any, account: None, run: Run, password: str, text: str) -> None:
    ended = run("login", server.url, "--user", "ada", "--password-file", "-", stdin=password)
    assert ended.code == 1
    assert text in ended.err
    assert "Hint:" in ended.err
    assert "Traceback" not in ended.err


def test_a_second_factor_is_asked_for_where_somebody_is_there(
    server: Any,
    account: None,
    run: Run,
    sessions: sessionmaker[Session],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    with sessions.begin() as db:
        ada = get_user(db, "ada")
        second_factor.prepare(db, ada, second_factor.box(["any"]))
        db.get_one(SecondFactor, ada.id).confirmed_at = datetime.now(UTC)
        code = second_factor.renew_codes(db, ada)[0]
    (tmp_path / "password").write_text(PASSWORD)
    login = ("login", server.url, "--user", "ada", "--password-file", str(tmp_path / "password"))
    ended = run(*login)
    assert ended.code == 1 and "second factor" in ended.err
    typed = StringIO(f"{code}\n")
    monkeypatch.setattr(typed, "isatty", lambda: True, raising=False)
    ended = run(*login, stdin=typed)
    assert ended.code == 0, ended.err
    assert run("jobs").code == 0


def test_nobody_signed_in(run: Run) -> None:
    ended = run("jobs")
    assert ended.code == 1
    assert ended.err.splitlines() == [
        "Error: No server is known.",
        "Hint:  Run 'labfleet login URL', or set LABFLEET_URL and LABFLEET_TOKEN.",
    ]


def test_a_token_that_is_not_good(server: Any, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABFLEET_URL", server.url)
    monkeypatch.setenv("LABFLEET_TOKEN", "lf_wrong")
    ended = run("jobs")
    assert ended.code == 1
    assert "labfleet login" in ended.err


def test_the_kept_token_goes_to_no_other_server(signed_in: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABFLEET_URL", "https://other.example.org")
    ended = signed_in("jobs")
    assert ended.code == 1
    assert "There is no token for https://other.example.org" in ended.err


def test_a_server_that_is_not_there(signed_in: Run, server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labfleet.cli.client.FIRST_PAUSE_SECONDS", 0.01)
    server.stop()
    ended = signed_in("jobs")
    assert ended.code == 1
    assert "can't be reached" in ended.err


def test_wrong_usage(run: Run) -> None:
    assert run("jobs", "--state", "asleep").code == 2
    assert run("frobnicate").code == 2
