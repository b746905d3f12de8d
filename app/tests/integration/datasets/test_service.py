"""Datasets in the database: names, owners, pages."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest
from sqlalchemy.orm import Session, sessionmaker

from labfleet.datasets import service
from labfleet.datasets.names import BadName
from labfleet.datasets.service import media_type_for
from labfleet.datasets.store import Blob
from labfleet.db.models import User
from labfleet.errors import Invalid, UnknownDataset

BLOB = Blob("ab" * 32, 3)


@pytest.fixture
def add(sessions: sessionmaker[Session], user: User) -> Callable[[str], uuid.UUID]:
    def make(name: str) -> uuid.UUID:
        with sessions.begin() as db:
            return service.add_dataset(db, user, name, "", BLOB).id

    return make


def test_the_same_content_under_two_names(
    add: Callable[[str], uuid.UUID], sessions: sessionmaker[Session], user: User
) -> None:
    first, second = add("a.csv"), add("b.csv")
    with sessions() as db:
        assert first != second
        assert service.get_dataset(db, user, first).sha256 == service.get_dataset(db, user, second).sha256


def test_pages_are_newest_first(
    add: Callable[[str], uuid.UUID], sessions: sessionmaker[Session], user: User
) -> None:
    made = [add(f"{number}.csv") for number in range(5)][::-1]
    seen: list[uuid.UUID] = []
    after = None
    with sessions() as db:
        while True:
            page = service.list_datasets(db, user, 2, after)
            seen += [item.id for item in page.items]
            after = page.next
            if after is None:
                break
        assert seen == made
        with pytest.raises(Invalid, match="names no dataset"):
            service.list_datasets(db, user, 2, uuid.uuid4())


def test_others_see_nothing_and_admins_everything(
    add: Callable[[str], uuid.UUID],
    sessions: sessionmaker[Session],
    make_user: Callable[..., User],
    admin: User,
) -> None:
    mine, eve = add("a.csv"), make_user("eve")
    with sessions() as db:
        with pytest.raises(UnknownDataset):
            service.get_dataset(db, eve, mine)
        assert service.list_datasets(db, eve).items == []
        assert service.get_dataset(db, admin, mine).id == mine
        assert len(service.list_datasets(db, admin).items) == 1


def test_a_bad_name_is_refused(sessions: sessionmaker[Session], user: User) -> None:
    with sessions.begin() as db, pytest.raises(BadName):
        service.add_dataset(db, user, "../a", "", BLOB)


@pytest.mark.parametrize(
    ("name", "claimed", "media_type"),
    [
        ("a.csv", "", "text/csv"),
        ("a.csv", "application/octet-stream", "text/csv"),
        ("a.csv", "application/x-www-form-urlencoded", "text/csv"),
        ("a.csv", "Text/Plain ", "text/plain"),
        ("a", "", "application/octet-stream"),
        ("a", "text/html\r\nX-Evil: 1", "application/octet-stream"),
    ],
)
def test_media_types(name: str, claimed: str, media_type: str) -> None:
    assert media_type_for(name, claimed) == media_type
