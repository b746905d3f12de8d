"""An address is one account's: the database decides, also between two who confirm it at once."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy.orm import Session, sessionmaker

from labfleet.config import MailSection
from labfleet.db.models import User
from labfleet.errors import UserExists
from labfleet.mail.outbox import Post
from labfleet.users import links, recovery
from labfleet.users.links import Kind

POST = Post(MailSection(host="mail.test", sender="labfleet@lab.test"), "https://labfleet.test")


def test_who_confirms_an_address_second_is_told(
    sessions: sessionmaker[Session], make_user: Callable[..., User]
) -> None:
    people = [make_user("ada"), make_user("grace")]
    with sessions.begin() as db:
        keys = [
            links.make(db, Kind.ADDRESS, mail, 600, user=user)[1]
            for mail, user in zip(("One@lab.test", "one@lab.test"), people, strict=True)
        ]
    with sessions.begin() as db:
        recovery.confirm_address(db, POST, keys[0])

    with sessions.begin() as db, pytest.raises(UserExists, match="Another account"):
        recovery.confirm_address(db, POST, keys[1])

    with sessions() as db:
        assert [db.get_one(User, user.id).mail for user in people] == ["One@lab.test", None]
