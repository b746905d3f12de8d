"""Who sees, uses and changes a dataset, and how it is found."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest
from sqlalchemy.orm import Session, sessionmaker

from labfleet.datasets import access, service
from labfleet.datasets.service import Filter
from labfleet.datasets.store import Blob
from labfleet.db.models import ProtocolVersion, User
from labfleet.errors import Forbidden, InvalidJob, LabfleetError, NotFound, UnknownDataset
from labfleet.jobs import quotas
from labfleet.jobs.service import submit
from labfleet.jobs.spec import JobSpec
from labfleet.users import sharing

Sessions = sessionmaker[Session]


@pytest.fixture
def add(sessions: Sessions, user: User) -> Callable[..., uuid.UUID]:
    def add(name: str = "a.csv", **about: object) -> uuid.UUID:
        with sessions.begin() as db:
            return service.add_dataset(db, user, name, "", Blob("ab" * 32, 3), about=about).id

    return add


def seen(sessions: Sessions, viewer: User, **wanted: object) -> list[str]:
    with sessions() as db:
        viewer = db.get_one(User, viewer.id)
        return [each.name for each in service.list_datasets(db, viewer, wanted=Filter(**wanted)).items]


def test_by_name_by_group_and_for_everybody(
    add: Callable[..., uuid.UUID], sessions: Sessions, user: User, make_user: Callable[..., User]
) -> None:
    dataset, eve, fay, guy = add(), make_user("eve"), make_user("fay"), make_user("guy")
    with sessions.begin() as db:
        quotas.put_group(db, "crew", {})
        quotas.set_user(db, "fay", {"group": "crew"})
        assert sharing.visibility(access.get_dataset(db, user, dataset)) == "private"
        shared = access.share(db, user, dataset, users=["eve", "ada"], groups=["crew"])
        assert sharing.visibility(shared) == "shared"
        with pytest.raises(NotFound):
            access.share(db, user, dataset, groups=["none"])
    assert seen(sessions, eve) == seen(sessions, fay) == ["a.csv"]
    assert seen(sessions, eve, mine=True) == seen(sessions, guy) == []
    with sessions.begin() as db:
        for change in (access.to_change, service.delete_dataset):
            with pytest.raises(Forbidden):
                change(db, eve, dataset)
            with pytest.raises(UnknownDataset):
                change(db, guy, dataset)
        access.make_public(db, user, dataset, public=True)
        assert access.get_dataset(db, guy, dataset)
        access.make_public(db, user, dataset, public=False)
        access.unshare(db, user, dataset, users=["eve"], groups=["crew"])
    assert seen(sessions, eve) == seen(sessions, fay) == []


def test_what_one_sees_jobs_may_take(
    add: Callable[..., uuid.UUID],
    sessions: Sessions,
    user: User,
    make_user: Callable[..., User],
    protocol: ProtocolVersion,
) -> None:
    dataset, eve = add(), make_user("eve")
    spec = JobSpec(protocol="echo", inputs={"data": dataset})
    with sessions() as db, pytest.raises((UnknownDataset, InvalidJob)):
        submit(db, eve, spec)
    with sessions.begin() as db:
        access.share(db, user, dataset, users=["eve"])
    with sessions.begin() as db:
        submit(db, eve, spec)
    with sessions() as db, pytest.raises(LabfleetError, match="1 of other users") as refused:
        service.delete_dataset(db, user, dataset)
    assert refused.value.extra["jobs"] == []


def test_search_and_facets(add: Callable[..., uuid.UUID], sessions: Sessions, user: User) -> None:
    add("plate_4.csv", description="Counts of cells", labels=["pilot", "cells"], licence="CC0-1.0")
    add("expression.tsv", labels=["pilot"], terms=["obo:1"])
    for text in ("plate", "counts CELLS", "CC0"):
        assert seen(sessions, user, text=text) == ["plate_4.csv"], text
    assert seen(sessions, user, text="obo:1") == ["expression.tsv"]
    assert seen(sessions, user, text="counts genes") == []
    assert len(seen(sessions, user, labels=["pilot"])) == 2
    assert seen(sessions, user, labels=["pilot", "cells"]) == ["plate_4.csv"]
    assert seen(sessions, user, terms=["obo:1"]) == ["expression.tsv"]
    assert seen(sessions, user, licence="CC0-1.0") == ["plate_4.csv"]
    with sessions() as db:
        assert service.facets(db, user) == {
            "labels": [("pilot", 2), ("cells", 1)],
            "terms": [("obo:1", 1)],
            "licences": [("CC0-1.0", 1)],
        }
        assert service.facets(db, user, Filter(text="plate"))["terms"] == []
