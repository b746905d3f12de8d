"""Protocols, datasets and results are found by words and terms, by those who may see them."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest
from sqlalchemy.orm import Session, sessionmaker

from labfleet import search
from labfleet.datasets import access as dataset_access
from labfleet.datasets import service as datasets
from labfleet.datasets.store import Blob
from labfleet.db.models import Job, Protocol, User
from labfleet.errors import Invalid
from labfleet.jobs import quotas
from labfleet.protocols import access as protocol_access
from labfleet.search import Filter, Kind

Sessions = sessionmaker[Session]


@pytest.fixture
def add(sessions: Sessions) -> Callable[..., uuid.UUID]:
    def add(owner: User, name: str, **about: object) -> uuid.UUID:
        with sessions.begin() as db:
            return datasets.add_dataset(db, owner, name, "", Blob("ab" * 32, 3), about=about).id

    return add


@pytest.fixture
def result(sessions: Sessions) -> Callable[..., uuid.UUID]:
    """A job of which something has come out."""

    def result(owner: User, label: str = "", **columns: object) -> uuid.UUID:
        counts = {"state": "success", "tasks_total": 1, "tasks_success": 1}
        with sessions.begin() as db:
            job = Job(owner_id=owner.id, spec={}, label=label, **counts | columns)
            db.add(job)
        return job.id

    return result


@pytest.fixture
def add_protocol(sessions: Sessions) -> Callable[..., str]:
    def add_protocol(name: str, owner: User | None = None, **columns: object) -> str:
        with sessions.begin() as db:
            db.add(Protocol(name=name, owner_id=owner.id if owner else None, **columns))
        return name

    return add_protocol


def found(sessions: Sessions, viewer: User, text: str = "", **wanted: object) -> list[str]:
    with sessions() as db:
        viewer = db.get_one(User, viewer.id)
        return [each.name for each in search.find(db, viewer, Filter(text=text, **wanted)).items]


def counts(sessions: Sessions, viewer: User, facet: str, **wanted: object) -> dict[str, int]:
    with sessions() as db:
        viewer = db.get_one(User, viewer.id)
        told = search.facets(db, viewer, Filter(**wanted))
    return {each.value: each.count for each in told[facet]}


def test_words_of_any_field_or_how_they_begin(
    add: Callable[..., uuid.UUID],
    result: Callable[..., uuid.UUID],
    add_protocol: Callable[..., str],
    sessions: Sessions,
    user: User,
) -> None:
    add_protocol(
        "differential-network", title="Differential networks", description="Of expression", terms=["obo:1"]
    )
    add(
        user,
        "plate_4.csv",
        description="Leukaemia, see example.org",
        labels=["Golub 1999"],
        terms=["obo:GO_1"],
    )
    result(user, "For the referee", note="second try", labels=["Golub 1999"], protocols=["pca"])
    for text, names in (
        ("network", ["Differential networks"]),
        ("differential-network", ["Differential networks"]),
        ("EXPRES diff", ["Differential networks"]),
        ("obo:1 networks", ["Differential networks"]),
        ("plate_4.csv", ["plate_4.csv"]),
        ("4 plate", ["plate_4.csv"]),
        ("leuk", ["plate_4.csv"]),
        ("example.org", ["plate_4.csv"]),
        ("obo:GO_1", ["plate_4.csv"]),
        ("golub", ["For the referee", "plate_4.csv"]),
        ("golub pca try", ["For the referee"]),
        ("golub none", []),
        ("& '|( :*", ["For the referee", "plate_4.csv", "Differential networks"]),
        ("it's \\ 'q", []),
    ):
        assert found(sessions, user, text) == names, text


def test_a_result_is_found_by_its_data_and_its_protocols(
    add: Callable[..., uuid.UUID],
    result: Callable[..., uuid.UUID],
    add_protocol: Callable[..., str],
    sessions: Sessions,
    user: User,
) -> None:
    add_protocol("pca", title="Principal components")
    golub = add(user, "golub.csv", terms=["gene-expression"])
    other = add(user, "other.csv", terms=["human"])
    result(user, "both", protocols=["pca"], datasets=[str(golub), str(other)])
    result(user, "one", protocols=["pca"], datasets=[str(golub)])
    result(
        user, "nothing came out", protocols=["pca"], datasets=[str(golub)], state="failed", tasks_success=0
    )
    results = {"kinds": [Kind.RESULT]}
    assert found(sessions, user, "golub principal", **results) == ["one", "both"]
    assert found(sessions, user, terms=["gene-expression", "human"], **results) == ["both"]
    assert found(sessions, user, terms=["human", "none"]) == []
    assert counts(sessions, user, "term", **results) == {"gene-expression": 2, "human": 1}
    assert counts(sessions, user, "kind", **results) == {"result": 2, "dataset": 2, "protocol": 1}
    assert counts(sessions, user, "protocol") == {"pca": 2}
    assert counts(sessions, user, "kind", terms=["human"]) == {"result": 1, "dataset": 1}


def test_only_what_one_may_see(
    add: Callable[..., uuid.UUID],
    result: Callable[..., uuid.UUID],
    add_protocol: Callable[..., str],
    sessions: Sessions,
    user: User,
    admin: User,
    make_user: Callable[..., User],
) -> None:
    eve, fay = make_user("eve"), make_user("fay")
    add_protocol("secret-one", user, public=False, title="secret", terms=["t"], formats=["csv"])
    dataset = add(user, "secret.csv", labels=["l"], terms=["t"], licence="CC0-1.0")
    result(user, "secret result", datasets=[str(dataset)])
    mine = ["secret result", "secret.csv", "secret"]
    assert found(sessions, user, "secret") == found(sessions, admin, "secret") == mine
    for stranger in (eve, fay):
        assert found(sessions, stranger, "secret") == found(sessions, stranger, terms=["t"]) == []
        for facet in ("kind", "term", "label", "format", "protocol", "licence", "owner"):
            assert counts(sessions, stranger, facet) == {}
    with sessions.begin() as db:
        quotas.put_group(db, "crew", {})
        quotas.set_user(db, "fay", {"group": "crew"})
        dataset_access.share(db, user, dataset, users=["eve"])
        protocol_access.share(db, user, "secret-one", groups=["crew"])
    assert found(sessions, eve, "secret") == ["secret.csv"]
    assert found(sessions, fay, "secret") == ["secret"]
    # A result of eve's own is found by her data only as long as she may see them.
    result(eve, "of eve", datasets=[str(dataset)])
    assert found(sessions, eve, "secret") == ["secret.csv", "of eve"]
    assert found(sessions, eve, terms=["t"]) == ["of eve", "secret.csv"]
    with sessions.begin() as db:
        dataset_access.unshare(db, user, dataset, users=["eve"])
    assert found(sessions, eve, "secret") == found(sessions, eve, terms=["t"]) == []
    assert counts(sessions, eve, "term") == {}


def test_the_name_comes_first_then_the_newest_page_by_page(
    add: Callable[..., uuid.UUID],
    result: Callable[..., uuid.UUID],
    add_protocol: Callable[..., str],
    sessions: Sessions,
    user: User,
) -> None:
    add(user, "golub.csv")
    for number in range(3):
        add(user, f"{number}.csv", description="golub")
        result(user, f"result {number}", note="golub")
    add_protocol("golub", description="golub", title="Golub")
    pages, after = [], None
    while True:
        with sessions() as db:
            page = search.find(db, user, Filter(text="golub"), 2, after)
        pages.append([each.name for each in page.items])
        after = page.next
        if after is None:
            break
    assert pages == [
        ["Golub", "golub.csv"],
        ["result 2", "2.csv"],
        ["result 1", "1.csv"],
        ["result 0", "0.csv"],
    ]


@pytest.mark.parametrize(
    "after", ["x", "1~2026-01-01~dataset~a", "2~2026-01-01T00:00:00+00:00~dataset~a", "~~~"]
)
def test_a_made_up_place_is_refused(after: str, sessions: Sessions, user: User) -> None:
    with sessions() as db, pytest.raises(Invalid):
        search.find(db, user, Filter(), after=after)


def test_facets_lead_on(
    add: Callable[..., uuid.UUID],
    add_protocol: Callable[..., str],
    sessions: Sessions,
    user: User,
    admin: User,
) -> None:
    add_protocol("beat", formats=["cellml"])
    add(user, "heart.CELLML", licence="MIT", labels=["paper"])
    add(user, "beats.csv", licence="CC0-1.0", labels=["paper", "old"])
    add(admin, "of-root.csv")
    assert counts(sessions, user, "format") == {"cellml": 2, "csv": 1}
    assert counts(sessions, user, "label") == {"paper": 2, "old": 1}
    assert counts(sessions, user, "owner") == {"ada": 2}
    assert counts(sessions, admin, "owner") == {"ada": 2, "root": 1}
    assert found(sessions, user, format="cellml") == ["heart.CELLML", "beat"]
    assert found(sessions, user, licence="MIT", labels=["paper"]) == ["heart.CELLML"]
    assert found(sessions, admin, owner="root") == ["of-root.csv"]
    assert found(sessions, user, owner="root") == found(sessions, user, owner="nobody") == []
