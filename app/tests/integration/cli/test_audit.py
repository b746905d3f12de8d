from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.orm import Session, sessionmaker

from labfleet.db.models import User
from labfleet.users import service

Run = Callable[..., Any]


def test_the_commands_on_the_server_are_in_the_log(
    signed_in: Run, user: User, sessions: sessionmaker[Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert signed_in("audit").code == 1  # for admins
    assert signed_in("user", "promote", "ada").out == "ada\tadmin\n"
    assert "lacks the scope 'admin'" in signed_in("audit").err  # the token is of before
    monkeypatch.setenv("LABFLEET_TOKEN", signed_in("token", "add", "ada").out.strip())
    password = "a very long password"
    assert signed_in("user", "password", "ada", "--password-file", "-", stdin=password).out == "changed\n"
    told = signed_in("audit", "--user", "ada", "--kind", "user").out
    assert "labfleet-admin" in told and "user.promoted" in told and "password.reset" not in told
    items = json.loads(signed_in("audit", "--limit", "1", "--json").out)
    assert [item["action"] for item in items] == ["password.reset"]
    with sessions() as db:
        assert service.authenticate(db, "ada", password).is_admin
    assert signed_in("user", "demote", "ada").out == "ada\tuser\n"
    assert signed_in("user", "disable", "ada").out == "ada\tdisabled\n"
    assert signed_in("jobs").code == 1
    assert signed_in("user", "enable", "ada").out == "ada\tuser\n"
    assert signed_in("jobs").code == 0
