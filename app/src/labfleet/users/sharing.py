"""What belongs to somebody and may be shared: protocols, datasets, sources and jobs.

The owner, those it is shared with (by name or by group), and everybody where it is public see and use it;
only the owner, and an admin, changes it. Of a job they see what `labfleet.jobs.visible` says. No function
commits.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Literal, TypedDict, TypeVar

from sqlalchemy import ColumnElement, or_, true
from sqlalchemy.orm import Session

from labfleet.db.models import (
    Dataset,
    DatasetShare,
    Group,
    Job,
    JobShare,
    Protocol,
    ProtocolShare,
    Source,
    SourceShare,
    User,
)
from labfleet.errors import NotFound
from labfleet.users.service import get_user

Visibility = Literal["private", "shared", "public"]
Shared = Dataset | Protocol | Source | Job
Share = TypeVar("Share", DatasetShare, ProtocolShare, SourceShare, JobShare)
Shares = type[DatasetShare] | type[ProtocolShare] | type[SourceShare] | type[JobShare]


class With(TypedDict, total=False):
    """The columns of a share that say with whom: one of them."""

    user_id: uuid.UUID
    group_name: str


def visible_to(
    viewer: User,
    kind: type[Dataset] | type[Protocol] | type[Source] | type[Job],
    share: Shares,
) -> ColumnElement[bool]:
    """The condition on things of this kind of what the viewer may see; `share` is what their `shares` are."""
    if viewer.is_admin:
        return true()
    return or_(kind.owner_id == viewer.id, kind.public, kind.shares.any(given_to(viewer, share)))


def given_to(viewer: User, share: Shares) -> ColumnElement[bool]:
    """The condition on shares of those with the viewer, by name or by the group that he is in now."""
    mine = share.user_id == viewer.id
    return or_(mine, share.group_name == viewer.group_name) if viewer.group_name else mine


def may_change(viewer: User, thing: Shared) -> bool:
    """Whether the viewer decides about it."""
    return viewer.is_admin or thing.owner_id == viewer.id


def visibility(thing: Shared) -> Visibility:
    """For whom it is, in a word."""
    if thing.public:
        return "public"
    return "shared" if thing.shares else "private"


def added(session: Session, thing: Shared, users: Iterable[str], groups: Iterable[str]) -> list[With]:
    """The shares that are not there yet; `NotFound` for unknown users and groups."""
    have = {(each.user_id, each.group_name) for each in thing.shares} | {(thing.owner_id, None)}
    fresh: list[With] = []
    for user in [get_user(session, user) for user in users]:
        if (user.id, None) not in have:
            fresh.append({"user_id": user.id})
            have.add((user.id, None))
    for group in groups:
        if session.get(Group, group) is None:
            raise NotFound(f"There is no group '{group}'.", hint="Ask an admin which groups there are.")
        if (None, group) not in have:
            fresh.append({"group_name": group})
            have.add((None, group))
    return fresh


def take_back(shares: list[Share], users: Iterable[str], groups: Iterable[str]) -> None:
    """Remove those of the shares that are with these users and groups."""
    out_users, out_groups = set(users), set(groups)
    for each in list(shares):
        if each.group_name in out_groups or (each.user is not None and each.user.name in out_users):
            shares.remove(each)
