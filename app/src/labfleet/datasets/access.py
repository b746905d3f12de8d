"""Who may see a dataset and give it to jobs, and who may change it (`labfleet.users.sharing`).

What one may not see does not exist. No function commits.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from labfleet.db.models import Dataset, DatasetShare, User
from labfleet.errors import Forbidden, UnknownDataset
from labfleet.users import audit, sharing
from labfleet.users.audit import Action


def visible_to(viewer: User) -> ColumnElement[bool]:
    """The condition on `Dataset` of what the viewer may see."""
    return sharing.visible_to(viewer, Dataset, DatasetShare)


def get_dataset(session: Session, viewer: User, dataset_id: uuid.UUID) -> Dataset:
    """The dataset; `UnknownDataset` if it isn't for the viewer."""
    found = session.scalars(select(Dataset).where(Dataset.id == dataset_id, visible_to(viewer))).one_or_none()
    if found is None:
        raise UnknownDataset(f"There is no dataset {dataset_id}.")
    return found


def to_change(session: Session, viewer: User, dataset_id: uuid.UUID) -> Dataset:
    """The dataset, locked, for one who may change it; `UnknownDataset`, `Forbidden`."""
    found = get_dataset(session, viewer, dataset_id)
    if not sharing.may_change(viewer, found):
        raise Forbidden(f"The dataset belongs to '{found.owner.name}'.", hint="Ask its owner.")
    locked = select(Dataset).where(Dataset.id == dataset_id).with_for_update(of=Dataset)
    row = session.scalars(locked.execution_options(populate_existing=True)).one_or_none()
    if row is None:  # deleted meanwhile
        raise UnknownDataset(f"There is no dataset {dataset_id}.")
    return row


def share(
    session: Session,
    viewer: User,
    dataset_id: uuid.UUID,
    *,
    users: Iterable[str] = (),
    groups: Iterable[str] = (),
) -> Dataset:
    """Let these users and groups see and use the dataset too; `NotFound` for unknown ones."""
    dataset, users, groups = to_change(session, viewer, dataset_id), list(users), list(groups)
    dataset.shares.extend(DatasetShare(**each) for each in sharing.added(session, dataset, users, groups))
    audit.record(
        session, Action.DATASET_SHARED, str(dataset.id), name=dataset.name, users=users, groups=groups
    )
    session.flush()
    return dataset


def unshare(
    session: Session,
    viewer: User,
    dataset_id: uuid.UUID,
    *,
    users: Iterable[str] = (),
    groups: Iterable[str] = (),
) -> Dataset:
    """Take that back. Jobs that were submitted go on."""
    dataset, users, groups = to_change(session, viewer, dataset_id), list(users), list(groups)
    sharing.take_back(dataset.shares, users, groups)
    audit.record(
        session, Action.DATASET_UNSHARED, str(dataset.id), name=dataset.name, users=users, groups=groups
    )
    session.flush()
    return dataset


def make_public(session: Session, viewer: User, dataset_id: uuid.UUID, *, public: bool) -> Dataset:
    """Let everybody see and use the dataset, or take that back: those it is shared with keep it."""
    dataset = to_change(session, viewer, dataset_id)
    if dataset.public != public:
        dataset.public = public
        action = Action.DATASET_PUBLISHED if public else Action.DATASET_WITHDRAWN
        audit.record(session, action, str(dataset.id), name=dataset.name)
    session.flush()
    return dataset
