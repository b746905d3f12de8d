"""Who may see and fetch a source, and who may change it (`labfleet.users.sharing`).

What one may not see does not exist. No function commits.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from labfleet.db.models import Source, SourceShare, User
from labfleet.errors import Forbidden, UnknownSource
from labfleet.users import audit, sharing
from labfleet.users.audit import Action


def visible_to(viewer: User) -> ColumnElement[bool]:
    """The condition on `Source` of what the viewer may see."""
    return sharing.visible_to(viewer, Source, SourceShare)


def get_source(session: Session, viewer: User, source_id: uuid.UUID, *, lock: bool = False) -> Source:
    """The source; `UnknownSource` if it isn't for the viewer."""
    wanted = select(Source).where(Source.id == source_id, visible_to(viewer))
    if lock:
        wanted = wanted.with_for_update(of=Source).execution_options(populate_existing=True)
    found = session.scalars(wanted).one_or_none()
    if found is None:
        raise UnknownSource(f"There is no source {source_id}.")
    return found


def to_change(session: Session, viewer: User, source_id: uuid.UUID) -> Source:
    """The source, locked, for one who may change it; `UnknownSource`, `Forbidden`."""
    found = get_source(session, viewer, source_id, lock=True)
    if not sharing.may_change(viewer, found):
        raise Forbidden(f"The source belongs to '{found.owner.name}'.", hint="Ask its owner.")
    return found


def share(
    session: Session,
    viewer: User,
    source_id: uuid.UUID,
    *,
    users: Iterable[str] = (),
    groups: Iterable[str] = (),
) -> Source:
    """Let these users and groups see and fetch the source too; `NotFound` for unknown ones."""
    source, users, groups = to_change(session, viewer, source_id), list(users), list(groups)
    source.shares.extend(SourceShare(**each) for each in sharing.added(session, source, users, groups))
    audit.record(session, Action.SOURCE_SHARED, str(source.id), name=source.name, users=users, groups=groups)
    session.flush()
    return source


def unshare(
    session: Session,
    viewer: User,
    source_id: uuid.UUID,
    *,
    users: Iterable[str] = (),
    groups: Iterable[str] = (),
) -> Source:
    """Take that back. Datasets that were made stay shared as they are."""
    source, users, groups = to_change(session, viewer, source_id), list(users), list(groups)
    sharing.take_back(source.shares, users, groups)
    audit.record(
        session, Action.SOURCE_UNSHARED, str(source.id), name=source.name, users=users, groups=groups
    )
    session.flush()
    return source


def make_public(session: Session, viewer: User, source_id: uuid.UUID, *, public: bool) -> Source:
    """Let everybody see and fetch the source, or take that back: those it is shared with keep it."""
    source = to_change(session, viewer, source_id)
    if source.public != public:
        source.public = public
        action = Action.SOURCE_PUBLISHED if public else Action.SOURCE_WITHDRAWN
        audit.record(session, action, str(source.id), name=source.name)
    session.flush()
    return source
