from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from sqlalchemy.orm import Session, sessionmaker

from labfleet.db.models import User
from labfleet.users import sessions as browser_sessions


def test_browsers_are_listed_and_signed_out(
    signed_in: Callable[..., Any], user: User, sessions: sessionmaker[Session]
) -> None:
    with sessions.begin() as db:
        for agent in ("Firefox/140.0 (Linux)", "Chrome/140 (Windows)", ""):
            browser_sessions.begin(db, user, address="192.0.2.7", agent=agent, hours=1)
    told = signed_in("session", "list").out
    assert "Firefox on Linux" in told and "192.0.2.7" in told
    items = json.loads(signed_in("session", "list", "--json").out)
    (windows,) = (item["id"] for item in items if item["device"] == "Chrome on Windows")
    assert signed_in("session", "end", windows).code == 0
    assert signed_in("session", "end", windows).code == 1
    assert len(json.loads(signed_in("session", "list", "--json").out)) == 2
    for nonsense in ((), (windows, "--all")):
        assert "A session or --all" in signed_in("session", "end", *nonsense).err
    assert signed_in("session", "end", "--all").code == 0
    assert "signed in nowhere" in signed_in("session", "list").err
