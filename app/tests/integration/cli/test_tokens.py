"""`labfleet tokens`, and signing in for a part of what one may."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

Run = Callable[..., Any]
PASSWORD = "a long enough password"


def test_tokens_are_made_listed_and_revoked(signed_in: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    made = signed_in("tokens", "make", "nightly", "--scope", "read", "--scope", "jobs", "--days", "2")
    assert made.code == 0 and made.out.startswith("lf_")
    told = signed_in("tokens", "list").out
    assert "nightly" in told and "read, jobs" in told
    monkeypatch.setenv("LABFLEET_TOKEN", made.out.strip())
    assert signed_in("jobs").code == 0
    refused = signed_in("tokens", "make", "more")
    assert refused.code == 1
    assert "lacks the scope 'account'" in refused.err and "labfleet tokens make" in refused.err
    monkeypatch.delenv("LABFLEET_TOKEN")
    items = json.loads(signed_in("tokens", "list", "--json").out)
    (nightly,) = (item["id"] for item in items if item["name"] == "nightly")
    assert signed_in("tokens", "revoke", nightly).code == 0
    assert "nightly" not in signed_in("tokens", "list").out


def test_a_sign_in_that_only_looks(server: Any, account: None, run: Run) -> None:
    command = ("login", server.url, "--user", "ada", "--password-file", "-", "--scope", "read")
    assert run(*command, stdin=PASSWORD).code == 0
    assert run("jobs").code == 0
    assert "lacks the scope 'account'" in run("session", "end", "--all").err


def test_a_scope_that_is_none(run: Run) -> None:
    assert run("tokens", "make", "x", "--scope", "everything").code == 2
