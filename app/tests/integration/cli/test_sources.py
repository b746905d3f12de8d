"""`labfleet sources` against a server; the loader's part is played by the database."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session, sessionmaker

from labfleet.db.models import Fetch
from labfleet.fetching.handlers.known import known
from labfleet.sources.service import put_handlers

Run = Callable[..., Any]


@pytest.fixture(autouse=True)
def handlers(sessions: sessionmaker[Session]) -> None:
    with sessions.begin() as db:
        put_handlers(db, {name: handler.described() for name, handler in known().items()})


def test_the_life_of_a_source(signed_in: Run, sessions: sessionmaker[Session], tmp_path: Path) -> None:
    told = signed_in("sources", "handlers").out
    assert "http: Web address (HTTP, HTTPS)" in told and "  path: Path." in told
    (tmp_path / "steps.yml").write_text("- rename: {Gen: gene}\n")
    url = "url=https://example.org/cells.csv"
    made = signed_in("sources", "add", "cells", "http", url, "--transform", "steps.yml", "--lifetime", "60")
    assert made.code == 0, made.err
    listed = json.loads(signed_in("sources", "list", "--json").out)
    assert [each["id"] for each in listed] == [made.out.strip()]
    assert listed[0]["definition"]["transform"] == [{"rename": {"Gen": "gene"}}]
    assert "never fetched" in signed_in("sources").out
    asked = signed_in("sources", "fetch", "cells", "--no-wait")
    assert (asked.code, asked.err) == (0, "queued: labfleet sources show 'cells'\n")
    with sessions.begin() as db:
        fetch = db.query(Fetch).one()
        fetch.state, fetch.message = "failed", "The server answered 404 Not Found."
    failed = signed_in("sources", "show", "cells")
    assert "404 Not Found" in failed.out and "gene" in failed.out and "good for: 1 min" in failed.out
    signed_in("sources", "fetch", made.out.strip(), "--no-wait")
    assert signed_in("sources", "cancel", "cells").out == "Source cells: cancelled.\n"
    again = signed_in("sources", "cancel", "cells")
    assert (again.code, again.err.splitlines()[0]) == (1, "Error: No fetch of 'cells' is under way.")
    shared = signed_in("sources", "share", "cells", "--everybody")
    assert shared.out == "Source cells: public.\n"
    assert signed_in("sources", "unshare", "cells", "--everybody").out == "Source cells: private.\n"
    assert signed_in("sources", "delete", "cells").out == "Source cells: deleted.\n"
    assert "No sources" in signed_in("sources").err


def test_what_is_wrong(signed_in: Run) -> None:
    assert signed_in("sources", "add", "cells", "http", "url").code == 2
    wrong = signed_in("sources", "add", "cells", "http", "url=example.org")
    assert wrong.code == 1
    assert "parameters/url: it is not written as it must be" in wrong.err
    assert signed_in("sources", "show", "none").code == 1


def test_credentials_from_a_file_or_typed_and_never_shown(
    signed_in: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "s3cret-of-the-source"
    (tmp_path / "given.yml").write_text(f'user: ada\npassword: "{secret}"\n')
    url = "url=https://example.org/cells.csv"
    assert "credentials (optional): user, password, token" in signed_in("sources", "handlers").out
    made = signed_in("sources", "add", "cells", "http", url, "--credentials", "given.yml")
    assert made.code == 0, made.err
    shown = signed_in("sources", "show", "cells").out
    assert "credentials: password, user, given " in shown and secret not in shown
    answers = iter(["", "", secret])
    monkeypatch.setattr("click.termui.hidden_prompt_func", lambda prompt: next(answers))
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda prompt: next(answers))
    typed = signed_in("sources", "credentials", "cells")
    assert typed.out == "Source cells: credentials token.\n", typed.err
    assert secret not in typed.err
    gone = signed_in("sources", "credentials", "cells", "--remove")
    assert gone.out == "Source cells: credentials removed.\n"
    assert "credentials" not in signed_in("sources", "show", "cells").out
    (tmp_path / "bad.yml").write_text(f"password: [{secret}\n")
    bad = signed_in("sources", "credentials", "cells", "--from", "bad.yml")
    assert bad.code == 1 and "no credentials that can be read" in bad.err and secret not in bad.err
    answers = iter(["", "", ""])
    assert signed_in("sources", "credentials", "cells").code == 2
    piped = signed_in("sources", "credentials", "cells", "--from", "-", stdin=f'token: "{secret}"')
    assert piped.out == "Source cells: credentials token.\n"


def test_import_of_a_protocol(signed_in: Run, sessions: sessionmaker[Session], tmp_path: Path) -> None:
    (tmp_path / "mine.yml").write_text("password: s3cret\n")
    url = "https://example.org/lab/cells.git"
    asked = signed_in("protocols", "import", url, "--credentials", "mine.yml", "--no-wait", "--json")
    assert asked.code == 0, asked.err
    fetch = json.loads(asked.out)
    shown = signed_in("sources", "show", "cells").out
    assert "credentials: password" in shown
    assert "s3cret" not in shown
    with sessions.begin() as db:
        row = db.query(Fetch).one()
        row.state, row.message = "failed", "main.py:1: it is broken"
    waited = signed_in("protocols", "import", "ssh://example.org/x")
    assert (waited.code, "parameters/url" in waited.err) == (1, True)
    again = signed_in("protocols", "import", url, "--rewrite", "--no-wait")
    assert again.err == f"queued: labfleet sources show {fetch['source']}\n"
