"""Who may see a dataset, and who may change it: as with protocols (`labfleet.protocols.access`).

The owner, those it is shared with (by name or by group), and everybody where it is public see it and may give
it to their jobs. Only the owner, and an admin, changes it. What one may not see does not exist. No function
commits.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Literal

from sqlalchemy import ColumnElement, or_, select, true
from sqlalchemy.orm import Session

from labfleet.db.models import Dataset, DatasetShare, Group, User
from labfleet.errors import Forbidden, NotFound, UnknownDataset
from labfleet.users.service import get_user

Visibility = Literal["private", "shared", "public"]


def visible_to(viewer: User) -> ColumnElement[bool]:
    """The condition on `Dataset` of what the viewer may see."""
    if viewer.is_admin:
        return true()
    mine = DatasetShare.user_id == viewer.id
    if viewer.group_name:
        mine = or_(mine, DatasetShare.group_name == viewer.group_name)
    shared = select(DatasetShare.id).where(DatasetShare.dataset_id == Dataset.id, mine).exists()
    return or_(Dataset.owner_id == viewer.id, Dataset.public, shared)


def may_change(viewer: User, dataset: Dataset) -> bool:
    """Whether the viewer decides about the dataset."""
    return viewer.is_admin or dataset.owner_id == viewer.id


def visibility(dataset: Dataset) -> Visibility:
    """For whom it is, in a word."""
    if dataset.public:
        return "public"
    return "shared" if dataset.shares else "private"


def get_dataset(session: Session, viewer: User, dataset_id: uuid.UUID) -> Dataset:
    """The dataset; `UnknownDataset` if it isn't for the viewer."""
    found = session.scalars(select(Dataset).where(Dataset.id == dataset_id, visible_to(viewer))).one_or_none()
    if found is None:
        raise UnknownDataset(f"There is no dataset {dataset_id}.")
    return found


def to_change(session: Session, viewer: User, dataset_id: uuid.UUID) -> Dataset:
    """The dataset, locked, for one who may change it; `UnknownDataset`, `Forbidden`."""
    found = get_dataset(session, viewer, dataset_id)
    if not may_change(viewer, found):
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
    dataset = to_change(session, viewer, dataset_id)
    have = {(each.user_id, each.group_name) for each in dataset.shares}
    for user in [get_user(session, user) for user in users]:
        if (user.id, None) not in have and user.id != dataset.owner_id:
            dataset.shares.append(DatasetShare(user_id=user.id))
            have.add((user.id, None))
    for group in groups:
        if session.get(Group, group) is None:
            raise NotFound(f"There is no group '{group}'.", hint="Ask an admin which groups there are.")
        if (None, group) not in have:
            dataset.shares.append(DatasetShare(group_name=group))
            have.add((None, group))
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
    dataset = to_change(session, viewer, dataset_id)
    out_users, out_groups = set(users), set(groups)
    for each in list(dataset.shares):
        if each.group_name in out_groups or (each.user is not None and each.user.name in out_users):
            dataset.shares.remove(each)
    session.flush()
    return dataset


def make_public(session: Session, viewer: User, dataset_id: uuid.UUID, *, public: bool) -> Dataset:
    """Let everybody see and use the dataset, or take that back: those it is shared with keep it."""
    dataset = to_change(session, viewer, dataset_id)
    dataset.public = public
    session.flush()
    return dataset
