"""Datasets: a name and an owner for a file of the store.

Every function takes a session and leaves the commit to its caller. What a viewer may not see is
`UnknownDataset`. An admin sees everything.
"""

from __future__ import annotations

import mimetypes
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, joinedload

from labfleet.datasets import previews
from labfleet.datasets.names import check_name
from labfleet.datasets.store import Blob
from labfleet.db import models
from labfleet.db.models import Dataset, User
from labfleet.errors import Invalid, UnknownDataset

ABOUT = ("description", "licence", "labels", "terms")
"""What is told about a dataset, and may change."""
OCTETS = "application/octet-stream"
_MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,60}/[a-z0-9][a-z0-9.+-]{0,60}")
# What tools send when nobody thought of a type.
_UNSPOKEN = frozenset({"", OCTETS, "application/x-www-form-urlencoded", "multipart/form-data"})


@dataclass(frozen=True)
class Page:
    """One page of datasets, newest first; `next` goes into `after`, None at the end."""

    items: Sequence[Dataset]
    next: uuid.UUID | None


def add_dataset(
    session: Session,
    owner: User,
    name: str,
    media_type: str,
    blob: Blob,
    *,
    about: Mapping[str, Any] | None = None,
    previous: uuid.UUID | None = None,
) -> Dataset:
    """Give a received file a name and an owner, and have a preview made of it if it is a table.

    `about` has some of `ABOUT`. With `previous` it is the next version of that dataset's series, and tells
    of itself what that one told where `about` says nothing. `BadName` if the name won't do,
    `UnknownDataset` if there is no such predecessor of the owner's.
    """
    name = check_name(name)
    values: dict[str, Any] = {"sha256": blob.sha256, "size": blob.size}
    session.execute(insert(models.Blob).values(values).on_conflict_do_nothing())
    values |= _succession(session, owner, previous) if previous else {}
    dataset = Dataset(
        owner_id=owner.id,
        name=name,
        media_type=media_type_for(name, media_type),
        **values | dict(about or {}),
    )
    session.add(dataset)
    session.flush()
    previews.ask(session, dataset)
    return dataset


def _succession(session: Session, owner: User, previous: uuid.UUID) -> dict[str, Any]:
    """The columns of the version that follows `previous`; two at once get numbers one after the other."""
    before = get_dataset(session, owner, previous)
    if before.owner_id != owner.id:
        raise UnknownDataset(
            f"You have no dataset {previous}.", hint="Only its owner adds a version to a dataset."
        )
    series = select(Dataset.id).where(Dataset.series_id == before.series_id, Dataset.version == 1)
    session.execute(series.with_for_update())
    last = select(func.max(Dataset.version)).where(Dataset.series_id == before.series_id)
    return {
        "previous_id": before.id,
        "series_id": before.series_id,
        "version": (session.scalar(last) or 0) + 1,
        **{key: getattr(before, key) for key in ABOUT},
    }


def change_dataset(
    session: Session, viewer: User, dataset_id: uuid.UUID, about: Mapping[str, Any]
) -> Dataset:
    """Change what is told about a dataset (some of `ABOUT`); its content stays."""
    dataset = get_dataset(session, viewer, dataset_id)
    for key in ABOUT:
        if key in about:
            setattr(dataset, key, about[key])
    session.flush()
    return dataset


def versions_of(session: Session, dataset: Dataset) -> Sequence[Dataset]:
    """All versions of the dataset's series, newest first."""
    same = select(Dataset).where(Dataset.series_id == dataset.series_id, Dataset.owner_id == dataset.owner_id)
    return session.scalars(same.order_by(Dataset.version.desc())).all()


def get_dataset(session: Session, viewer: User, dataset_id: uuid.UUID) -> Dataset:
    """The dataset; `UnknownDataset` if it isn't the viewer's."""
    dataset = session.get(Dataset, dataset_id)
    if dataset is None or not (viewer.is_admin or dataset.owner_id == viewer.id):
        raise UnknownDataset(f"There is no dataset {dataset_id}.")
    return dataset


def list_datasets(session: Session, viewer: User, limit: int = 50, after: uuid.UUID | None = None) -> Page:
    """The viewer's datasets (all for an admin), newest first, `limit` a page, following `after`."""
    statement = select(Dataset).options(joinedload(Dataset.owner, innerjoin=True))
    if not viewer.is_admin:
        statement = statement.where(Dataset.owner_id == viewer.id)
    if after is not None:
        mark = session.execute(
            select(Dataset.created_at, Dataset.id).where(Dataset.id == after)
        ).one_or_none()
        if mark is None:
            raise Invalid(f"'after' names no dataset: {after}.", hint="Use the value of 'next' as it came.")
        statement = statement.where(tuple_(Dataset.created_at, Dataset.id) < mark)
    statement = statement.order_by(Dataset.created_at.desc(), Dataset.id.desc()).limit(limit + 1)
    found = session.scalars(statement).all()
    return Page(found[:limit], found[limit - 1].id if len(found) > limit else None)


def media_type_for(name: str, claimed: str) -> str:
    """The type that the sender names, or one guessed from the name's ending."""
    claimed = claimed.strip().lower()
    if claimed not in _UNSPOKEN and _MEDIA_TYPE.fullmatch(claimed):
        return claimed
    return mimetypes.guess_type(name)[0] or OCTETS


def same_as(session: Session, owner: User, name: str, sha256: str) -> uuid.UUID | None:
    """The owner's newest dataset of this name and content, if there is one."""
    statement = select(Dataset.id).where(
        Dataset.owner_id == owner.id, Dataset.name == name, Dataset.sha256 == sha256
    )
    return session.scalars(statement.order_by(Dataset.created_at.desc()).limit(1)).one_or_none()
