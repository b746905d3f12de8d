"""Datasets in the database: names, owners, pages."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest
from sqlalchemy.orm import Session, sessionmaker

from labfleet.datasets import access, previews, service
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
        assert access.get_dataset(db, user, first).sha256 == access.get_dataset(db, user, second).sha256


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
            access.get_dataset(db, eve, mine)
        assert service.list_datasets(db, eve).items == []
        assert access.get_dataset(db, admin, mine).id == mine
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


def test_versions_follow_one_another_and_inherit_what_was_told(
    sessions: sessionmaker[Session], user: User, make_user: Callable[..., User]
) -> None:
    about = {"description": "Counts", "licence": "CC0-1.0", "labels": ["a"], "terms": ["obo:1"]}
    with sessions.begin() as db:
        first = service.add_dataset(db, user, "a.csv", "", BLOB, about=about).id
        second = service.add_dataset(db, user, "b.csv", "", BLOB, previous=first, about={"labels": ["b"]}).id
        third = service.add_dataset(db, user, "a.csv", "", BLOB, previous=first).id
        service.add_dataset(db, user, "other.csv", "", BLOB)
    with sessions() as db:
        versions = service.versions_of(db, user, access.get_dataset(db, user, second))
        assert [(each.id, each.version, each.previous_id) for each in versions] == [
            (third, 3, first),
            (second, 2, first),
            (first, 1, None),
        ]
        assert [each.labels for each in versions] == [["a"], ["b"], ["a"]]
        assert {each.licence for each in versions} == {"CC0-1.0"}
        for other in (make_user("eve"), make_user("root", is_admin=True)):
            with pytest.raises(UnknownDataset):
                service.add_dataset(db, other, "x.csv", "", BLOB, previous=first)


def test_what_is_told_may_change_and_the_rest_stays(
    add: Callable[[str], uuid.UUID],
    sessions: sessionmaker[Session],
    user: User,
    make_user: Callable[..., User],
) -> None:
    dataset = add("a.csv")
    with sessions.begin() as db:
        service.change_dataset(db, user, dataset, {"description": "New", "terms": ["t"]})
        with pytest.raises(UnknownDataset):
            service.change_dataset(db, make_user("eve"), dataset, {"description": "Hers"})
    with sessions() as db:
        found = access.get_dataset(db, user, dataset)
        assert (found.name, found.description, found.labels, found.terms) == ("a.csv", "New", [], ["t"])


def test_a_preview_is_taken_once_and_lost_by_who_is_late(
    add: Callable[[str], uuid.UUID], sessions: sessionmaker[Session]
) -> None:
    dataset = add("a.csv")
    add("a.bin")
    with sessions.begin() as db:
        early = previews.take(db, seconds=0, tries=3)
    assert early is not None and early.dataset_id == dataset
    with sessions.begin() as db:
        late = previews.take(db, seconds=60, tries=3)
        assert late is not None and late.number == 2
        assert previews.take(db, seconds=60, tries=3) is None
    with sessions.begin() as db:
        assert not previews.settle(db, early, {"rows": 1}, "")
        assert previews.settle(db, late, {"rows": 2}, "")
    with sessions() as db:
        found = previews.get(db, dataset)
        assert found is not None and (found.state, found.result) == ("done", {"rows": 2})


def test_a_preview_that_never_ends_is_given_up_and_may_be_asked_for_again(
    add: Callable[[str], uuid.UUID], sessions: sessionmaker[Session], user: User
) -> None:
    dataset = add("a.csv")
    for _ in range(2):
        with sessions.begin() as db:
            assert previews.take(db, seconds=0, tries=2)
    with sessions.begin() as db:
        assert previews.take(db, seconds=0, tries=2) is None
        found = previews.get(db, dataset)
        assert found is not None and found.state == "failed" and found.message
        previews.ask_again(db, access.get_dataset(db, user, dataset))
        assert previews.take(db, seconds=0, tries=2)
        with pytest.raises(previews.NoTable):
            previews.ask_again(db, service.add_dataset(db, user, "a.bin", "", BLOB))
