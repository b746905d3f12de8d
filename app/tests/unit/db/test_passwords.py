"""A password of several lines: each of them is tried, as long as one is changed."""

from __future__ import annotations

import psycopg
import pytest

from labfleet.db.engine import first_accepted


class Server:
    """Takes one password, and remembers what was tried."""

    def __init__(self, right: str | None) -> None:
        self.right = right
        self.tried: list[str | None] = []

    def connect(self, password: str | None) -> str:
        self.tried.append(password)
        if password != self.right:
            raise psycopg.OperationalError("password authentication failed")
        return "connected"


@pytest.mark.parametrize(("right", "tried"), [("old", ["old"]), ("new", ["old", "new"])])
def test_either_of_two_is_enough(right: str, tried: list[str]) -> None:
    server = Server(right)
    assert first_accepted("old\nnew", server.connect) == "connected"
    assert server.tried == tried


def test_one_is_tried_once() -> None:
    server = Server("right")
    with pytest.raises(psycopg.OperationalError):
        first_accepted("wrong", server.connect)
    assert server.tried == ["wrong"]


def test_none_is_none() -> None:
    assert first_accepted(None, Server(None).connect) == "connected"
