"""Datasets: a name and an owner for a file of the store.

Every function takes a session and leaves the commit to its caller. What a viewer may not see is
`UnknownDataset` (`labfleet.datasets.access`). An admin sees everything.
"""

from __future__ import annotations

import mimetypes
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, delete, func, or_, select, tuple_
from sqlalchemy.orm import Session, joinedload, selectinload

from labfleet.datasets import access, previews
from labfleet.datasets.names import check_name
from labfleet.datasets.store import Blob
from labfleet.datasets.sweep import touch
from labfleet.db.models import Dataset, Job, User
from labfleet.errors import Conflict, Invalid, UnknownDataset
from labfleet.users import audit
from labfleet.users.audit import Action

ABOUT = ("description", "licence", "labels", "terms")
"""What is told about a dataset, and may change."""
JOBS_NAMED = 5
FACETS = 30
# As the index has it (`labfleet.db.models`).
WORDS = func.to_tsvector(
    "simple",
    func.translate(Dataset.name, "._-", "   ")
    .concat(" ")
    .concat(Dataset.description)
    .concat(" ")
    .concat(Dataset.licence),
)
OCTETS = "application/octet-stream"
_MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,60}/[a-z0-9][a-z0-9.+-]{0,60}")
# What tools send when nobody thought of a type.
_UNSPOKEN = frozenset({"", OCTETS, "application/x-www-form-urlencoded", "multipart/form-data"})


@dataclass(frozen=True)
class Page:
    """One page of datasets, newest first; `next` goes into `after`, None at the end."""

    items: Sequence[Dataset]
    next: uuid.UUID | None


@dataclass(frozen=True)
class Filter:
    """Which datasets; what is None or empty excludes none. `text` are words of name, description and licence,
    or one label or term as a whole; `mine` leaves out what others share."""

    text: str | None = None
    labels: Sequence[str] = ()
    terms: Sequence[str] = ()
    licence: str | None = None
    mine: bool = False


class DatasetInUse(Conflict):
    """Jobs take the dataset."""

    code = "dataset_in_use"
    title = "Jobs take the dataset"
    default_hint = "Delete these jobs first, or keep it: what their results came from is to be found again."


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
    touch(session, blob.sha256, blob.size)
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
    before = access.get_dataset(session, owner, previous)
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
    dataset = access.to_change(session, viewer, dataset_id)
    for key in ABOUT:
        if key in about:
            setattr(dataset, key, about[key])
    session.flush()
    return dataset


def versions_of(session: Session, viewer: User, dataset: Dataset) -> Sequence[Dataset]:
    """The versions of the dataset's series that the viewer may see, newest first."""
    same = select(Dataset).where(Dataset.series_id == dataset.series_id, access.visible_to(viewer))
    return session.scalars(same.order_by(Dataset.version.desc())).all()


def get_dataset(session: Session, viewer: User, dataset_id: uuid.UUID) -> Dataset:
    """The dataset; `UnknownDataset` if it isn't for the viewer."""
    return access.get_dataset(session, viewer, dataset_id)


def delete_dataset(session: Session, viewer: User, dataset_id: uuid.UUID) -> None:
    """Delete the dataset for good, `DatasetInUse` while jobs take it: their results would point to nothing.

    Its content leaves the store with the next sweep, if nothing else has the same.
    """
    dataset = access.to_change(session, viewer, dataset_id)
    takes = Job.datasets.contains([str(dataset.id)])
    number = session.scalar(select(func.count()).select_from(Job).where(takes)) or 0
    if number:
        seen = (
            select(Job).where(takes)
            if viewer.is_admin
            else select(Job).where(takes, Job.owner_id == viewer.id)
        )
        jobs = session.scalars(seen.order_by(Job.created_at.desc()).limit(JOBS_NAMED)).all()
        named = [f"{job.label or ', '.join(job.protocols)} ({job.id})" for job in jobs]
        rest = number - len(jobs)
        more = [f"{rest} {'others' if jobs else 'of other users'}"] if rest else []
        raise DatasetInUse(
            f"Jobs take '{dataset.name}': {'; '.join(named + more)}.", jobs=[str(job.id) for job in jobs]
        )
    audit.record(
        session, Action.DATASET_DELETED, str(dataset.id), name=dataset.name, owner=dataset.owner.name
    )
    session.execute(delete(Dataset).where(Dataset.id == dataset.id))


def list_datasets(
    session: Session,
    viewer: User,
    limit: int = 50,
    after: uuid.UUID | None = None,
    wanted: Filter | None = None,
) -> Page:
    """The datasets that the viewer may see, newest first, `limit` a page, following `after`."""
    statement = select(Dataset).options(
        joinedload(Dataset.owner, innerjoin=True), selectinload(Dataset.shares)
    )
    statement = _filtered(statement.where(access.visible_to(viewer)), viewer, wanted or Filter())
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


def facets(session: Session, viewer: User, wanted: Filter | None = None) -> dict[str, list[tuple[str, int]]]:
    """The most frequent labels, terms and licences of what the filter finds, with their numbers."""
    found = {}
    for name, value in (
        ("labels", func.unnest(Dataset.labels)),
        ("terms", func.unnest(Dataset.terms)),
        ("licences", func.nullif(Dataset.licence, "")),
    ):
        values = _filtered(select(value.label("value")), viewer, wanted or Filter())
        inner = values.where(access.visible_to(viewer)).subquery()
        counted = (
            select(inner.c.value, func.count()).where(inner.c.value.is_not(None)).group_by(inner.c.value)
        )
        rows = session.execute(counted.order_by(func.count().desc(), inner.c.value).limit(FACETS))
        found[name] = [(value, count) for value, count in rows]
    return found


def _filtered(statement: Select[Any], viewer: User, wanted: Filter) -> Select[Any]:
    if wanted.text is not None:
        query = func.plainto_tsquery("simple", wanted.text)
        statement = statement.where(or_(WORDS.op("@@")(query), _words(wanted.text)))
    if wanted.labels:
        statement = statement.where(Dataset.labels.contains(list(wanted.labels)))
    if wanted.terms:
        statement = statement.where(Dataset.terms.contains(list(wanted.terms)))
    if wanted.licence is not None:
        statement = statement.where(Dataset.licence == wanted.licence)
    return statement.where(Dataset.owner_id == viewer.id) if wanted.mine else statement


def _words(text: str) -> ColumnElement[bool]:
    """A label or term that is just this."""
    return or_(Dataset.labels.contains([text]), Dataset.terms.contains([text]))


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
