"""What git is told, and what it is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Run = Callable[..., Any]


def test_git_is_told_name_and_token_of_this_server_only(signed_in: Run, server: Any) -> None:
    host = server.url.removeprefix("http://")
    told = signed_in("git-credential", "get", stdin=f"protocol=http\nhost={host}\n\n")
    assert told.out.startswith("username=ada\npassword=lf_")
    assert signed_in("git-credential", "get", stdin="protocol=http\nhost=elsewhere\n\n").out == ""
    assert signed_in("git-credential", "get", stdin=f"protocol=https\nhost={host}\n\n").out == ""
    assert signed_in("git-credential", "erase", stdin=f"protocol=http\nhost={host}\n\n").code == 0
