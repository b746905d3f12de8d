"""Who may see a protocol, and who may change it (`labfleet.users.sharing`).

One without an owner is the lab's own, which admins keep. What one may not see does not exist: it is
`UnknownProtocol`. As everywhere, no function commits.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import ColumnElement, Select, select
from sqlalchemy.orm import Session, selectinload

from labfleet.db.models import Protocol, ProtocolShare, User
from labfleet.errors import Conflict, Forbidden, Invalid, UnknownProtocol
from labfleet.users import audit, sharing
from labfleet.users.audit import Action
from labfleet.users.service import get_user


class NameTaken(Conflict):
    """A protocol of this name belongs to somebody else; names are one for the whole lab."""

    code = "name_taken"
    title = "The name is taken"
    default_hint = "Give the protocol another name in protocol.yml, for example with your initials."


def visible_to(viewer: User) -> ColumnElement[bool]:
    """The condition on `Protocol` of what the viewer may see."""
    return sharing.visible_to(viewer, Protocol, ProtocolShare)


def unknown(name: str) -> UnknownProtocol:
    """The error for a protocol that is not there, or not there for the viewer."""
    return UnknownProtocol(f"There is no protocol '{name[:80]}'.")


def get_protocol(session: Session, viewer: User, name: str) -> Protocol:
    """One protocol with its versions, newest first; `UnknownProtocol`."""
    found = session.scalars(_one(name).where(visible_to(viewer))).one_or_none()
    if found is None:
        raise unknown(name)
    return found


def to_change(session: Session, viewer: User, name: str) -> Protocol:
    """The protocol, locked, for one who may change it; `UnknownProtocol`, `Forbidden`."""
    found = get_protocol(session, viewer, name)
    if not sharing.may_change(viewer, found):
        owner = f"'{found.owner.name}'" if found.owner else "the lab"
        raise Forbidden(
            f"The protocol '{name}' belongs to {owner}.", hint="Ask its owner, or make one of another name."
        )
    locked = _one(name).with_for_update(of=Protocol).execution_options(populate_existing=True)
    return session.scalars(locked).one()


def may_change_named(session: Session, user: User, name: str) -> bool:
    """Whether there is a protocol of this name, which the user may change; `NameTaken` if somebody else's."""
    found = session.scalars(select(Protocol).where(Protocol.name == name)).one_or_none()
    if found is None:
        return False
    if sharing.may_change(user, found):
        return True
    raise NameTaken(f"There is a protocol '{name[:80]}' of somebody else.")


def _one(name: str) -> Select[Protocol]:
    parts = (
        selectinload(Protocol.versions),
        selectinload(Protocol.owner),
        selectinload(Protocol.shares).selectinload(ProtocolShare.user),
    )
    return select(Protocol).options(*parts).where(Protocol.name == name)


def share(
    session: Session, viewer: User, name: str, *, users: Iterable[str] = (), groups: Iterable[str] = ()
) -> Protocol:
    """Let these users and groups see and use the protocol too; `NotFound` for unknown ones."""
    protocol, users, groups = to_change(session, viewer, name), list(users), list(groups)
    protocol.shares.extend(ProtocolShare(**each) for each in sharing.added(session, protocol, users, groups))
    audit.record(session, Action.PROTOCOL_SHARED, name, users=users, groups=groups)
    session.flush()
    return protocol


def unshare(
    session: Session, viewer: User, name: str, *, users: Iterable[str] = (), groups: Iterable[str] = ()
) -> Protocol:
    """Take that back. Jobs that were submitted go on, and stay readable to who submitted them."""
    protocol, users, groups = to_change(session, viewer, name), list(users), list(groups)
    sharing.take_back(protocol.shares, users, groups)
    audit.record(session, Action.PROTOCOL_UNSHARED, name, users=users, groups=groups)
    session.flush()
    return protocol


def publish(session: Session, viewer: User, name: str) -> Protocol:
    """Let everybody see and use the protocol."""
    return _make_public(session, viewer, name, public=True)


def withdraw(session: Session, viewer: User, name: str) -> Protocol:
    """Take it back from everybody: the owner keeps it, and those it is shared with by name or group."""
    return _make_public(session, viewer, name, public=False)


def _make_public(session: Session, viewer: User, name: str, *, public: bool) -> Protocol:
    protocol = to_change(session, viewer, name)
    if not public and protocol.owner_id is None and not protocol.shares:
        raise Invalid(
            f"The protocol '{name}' is the lab's own: withdrawn, only admins would see it.",
            hint="Share it with somebody first, or transfer it to a user.",
        )
    if protocol.public != public:
        protocol.public = public
        audit.record(session, Action.PROTOCOL_PUBLISHED if public else Action.PROTOCOL_WITHDRAWN, name)
    session.flush()
    return protocol


def transfer(session: Session, viewer: User, name: str, to: str) -> Protocol:
    """Give the protocol to another user, who decides about it from now on, and whose quota it counts for."""
    protocol = to_change(session, viewer, name)
    owner = get_user(session, to)
    if owner.disabled_at is not None:
        raise Invalid(f"The account '{to}' is disabled.", hint="Choose somebody who may sign in.")
    protocol.owner = owner
    protocol.owner_id = owner.id
    for each in [each for each in protocol.shares if each.user_id == owner.id]:
        protocol.shares.remove(each)
    audit.record(session, Action.PROTOCOL_TRANSFERRED, name, to=to)
    session.flush()
    return protocol
