from __future__ import annotations

from collections.abc import Callable
from typing import Any

from labfleet.db.models import User
from labfleet.jobs.webhooks import secret_of


def test_the_secret_is_printed_alone(signed_in: Callable[..., Any], user: User, settings_file: Any) -> None:
    key = (settings_file.parent / "credentials" / "signing_keys").read_text().strip()
    ended = signed_in("webhook-secret")
    assert (ended.code, ended.out, ended.err) == (0, f"{secret_of(user.id, [key])}\n", "")
