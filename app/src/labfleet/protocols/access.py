"""Who may see a protocol, and who may change it.

The owner, those it is shared with (by name or by group), and everybody where it is public see and use it.
Only the owner changes it; one without an owner is the lab's own, which admins keep. An admin may do all.
What one may not see does not exist: it is `UnknownProtocol`. As everywhere, no function commits.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from sqlalchemy import ColumnElement, Select, or_, select, true
from sqlalchemy.orm import Session, selectinload

from labfleet.db.models import Group, Protocol, ProtocolShare, User
from labfleet.errors import Conflict, Forbidden, Invalid, NotFound, UnknownProtocol
from labfleet.users.service import get_user

Visibility = Literal["private", "shared", "public"]


class NameTaken(Conflict):
    """A protocol of this name belongs to somebody else; names are one for the whole lab."""

    code = "name_taken"
    title = "The name is taken"
    default_hint = "Give the protocol another name in protocol.yml, for example with your initials."


def visible_to(viewer: User) -> ColumnElement[bool]:
    """The condition on `Protocol` of what the viewer may see."""
    if viewer.is_admin:
        return true()
    mine = ProtocolShare.user_id == viewer.id
    if viewer.group_name:
        mine = or_(mine, ProtocolShare.group_name == viewer.group_name)
    shared = select(ProtocolShare.id).where(ProtocolShare.protocol_id == Protocol.id, mine).exists()
    return or_(Protocol.public, Protocol.owner_id == viewer.id, shared)


def may_change(viewer: User, protocol: Protocol) -> bool:
    """Whether the viewer decides about the protocol."""
    return viewer.is_admin or protocol.owner_id == viewer.id


def visibility(protocol: Protocol) -> Visibility:
    """For whom it is, in a word."""
    if protocol.public:
        return "public"
    return "shared" if protocol.shares else "private"


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
    if not may_change(viewer, found):
        owner = f"'{found.owner.name}'" if found.owner else "the lab"
        raise Forbidden(
            f"The protocol '{name}' belongs to {owner}.", hint="Ask its owner, or make one of another name."
        )
    locked = _one(name).with_for_update(of=Protocol).execution_options(populate_existing=True)
    return session.scalars(locked).one()


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
    protocol = to_change(session, viewer, name)
    have = {(each.user_id, each.group_name) for each in protocol.shares}
    for user in [get_user(session, user) for user in users]:
        if (user.id, None) not in have and user.id != protocol.owner_id:
            protocol.shares.append(ProtocolShare(user_id=user.id))
            have.add((user.id, None))
    for group in groups:
        if session.get(Group, group) is None:
            raise NotFound(f"There is no group '{group}'.", hint="Ask an admin which groups there are.")
        if (None, group) not in have:
            protocol.shares.append(ProtocolShare(group_name=group))
            have.add((None, group))
    session.flush()
    return protocol


def unshare(
    session: Session, viewer: User, name: str, *, users: Iterable[str] = (), groups: Iterable[str] = ()
) -> Protocol:
    """Take that back. Jobs that were submitted go on, and stay readable to who submitted them."""
    protocol = to_change(session, viewer, name)
    out_users, out_groups = set(users), set(groups)
    for each in list(protocol.shares):
        if each.group_name in out_groups or (each.user is not None and each.user.name in out_users):
            protocol.shares.remove(each)
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
    protocol.public = public
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
    session.flush()
    return protocol
