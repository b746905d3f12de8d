"""Protocols in the database: which there are, in which versions. The code itself lies in `store`.

As everywhere, these functions take a session and never commit. Who may see what stands in `access`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import ColumnElement, func, or_, select, update
from sqlalchemy import delete as sql_delete
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, selectinload

from labfleet.db.models import Protocol, ProtocolShare, ProtocolVersion, User
from labfleet.errors import Conflict, Invalid, UnknownVersion
from labfleet.protocols.access import NameTaken, get_protocol, to_change, unknown, visible_to
from labfleet.protocols.check import check_tree
from labfleet.protocols.manifest import Manifest
from labfleet.protocols.store import ProtocolStore, Version
from labfleet.protocols.tree import entries_of
from labfleet.users import audit, sharing
from labfleet.users.audit import Action

__all__ = [
    "ProtocolInUse",
    "delete",
    "find_version",
    "get_protocol",
    "import_protocol",
    "keep",
    "list_protocols",
    "register",
    "resized",
    "take_in",
]

Accept = Callable[[User, int], object]
_SHORT_COMMIT = re.compile(r"[0-9a-f]{7,40}")


class ProtocolInUse(Conflict):
    """Tasks point to a version of the protocol."""

    code = "protocol_in_use"
    title = "Results point to the protocol"
    default_hint = (
        "Withdraw it and take back its shares: nobody else sees it then, and results stay explained."
    )


def import_protocol(session: Session, store: ProtocolStore, directory: Path) -> tuple[Version, bool]:
    """Keep the protocol of `directory` in git and register it; gives it and whether anything changed.

    For admins on the server: a new one is the lab's own and public, an older one stays whose it is.
    """
    version = store.import_tree(directory)
    registered = register(session, store, version)
    return version, version.created or registered


def keep(
    session: Session,
    store: ProtocolStore,
    user: User,
    directory: Path,
    *,
    name: str | None = None,
    accept: Accept = lambda owner, size: None,
) -> Version:
    """Keep the protocol of `directory` for the user: a new one (private), or a new version of one of theirs.

    `accept` is asked whether its owner may store so many bytes more. Raises `InvalidProtocol` with all
    faults, `NameTaken`, `VersionChanged`, and `Invalid` where `name` is given and is another one. After an
    error nothing is left, once the caller has rolled back.
    """
    manifest = check_tree(directory).require()
    if name is not None and manifest.name != name:
        raise Invalid(
            f"protocol.yml says the name '{manifest.name}', not '{name}'.",
            hint="Send it to the protocol of that name, or correct the name in protocol.yml.",
        )
    protocol, fresh = claim(session, store, user, manifest)
    if protocol.owner is not None:
        accept(protocol.owner, sum(entry.place.lstat().st_size for entry in entries_of(directory)))
    try:
        version = store.keep(manifest, directory)
        register(session, store, version)
    except BaseException:
        if fresh:
            store.remove(manifest.name)
        raise
    return version


def claim(session: Session, store: ProtocolStore, user: User, manifest: Manifest) -> tuple[Protocol, bool]:
    """The locked row of a protocol that the user may change, made if there is none; and whether it was."""
    values = {**_texts(manifest), "owner_id": user.id, "public": False}
    made = session.scalar(insert(Protocol).values(values).on_conflict_do_nothing().returning(Protocol.id))
    if made is not None and store.has(manifest.name) and not user.is_admin:
        # What it holds is of somebody whom the database has lost; an admin may look.
        raise NameTaken(f"A repository of the name '{manifest.name}' is left over from another protocol.")
    locked = select(Protocol).where(Protocol.name == manifest.name).with_for_update()
    protocol = session.scalars(locked.execution_options(populate_existing=True)).one()
    if not sharing.may_change(user, protocol):
        raise NameTaken(f"There is a protocol '{manifest.name}' of somebody else.")
    return protocol, made is not None and not store.has(manifest.name)


def register(session: Session, store: ProtocolStore, version: Version) -> bool:
    """Enter a version that the store has; True if it was not there. The newest one's title counts."""
    manifest = version.manifest
    session.execute(insert(Protocol).values(_texts(manifest)).on_conflict_do_nothing())
    protocol = session.scalars(select(Protocol).where(Protocol.name == manifest.name).with_for_update()).one()
    entered = session.execute(
        insert(ProtocolVersion)
        .values(
            protocol_id=protocol.id,
            commit=version.commit,
            version=version.name,
            manifest=manifest.stored(),
        )
        .on_conflict_do_nothing()
        .returning(ProtocolVersion.id)
    ).first()
    if entered is not None:
        protocol.title, protocol.description = manifest.title, manifest.description
        protocol.terms, protocol.formats = _wanted(manifest, "terms"), _wanted(manifest, "formats")
        protocol.stored_bytes = store.size(manifest.name)
        audit.record(
            session, Action.PROTOCOL_VERSION, manifest.name, version=version.name, commit=version.commit
        )
        session.flush()
    return entered is not None


def take_in(
    session: Session,
    store: ProtocolStore,
    user: User,
    name: str,
    *,
    pushed: ProtocolStore | None = None,
    accept: Accept = lambda owner, size: None,
) -> list[Version]:
    """Enter what somebody has pushed and the hook has judged; gives the new versions, oldest first.

    `pushed` is the store in which a new protocol lies, which is moved into `store`. Raises `NameTaken`, and
    whatever `accept` does; the caller brings the refs back then.
    """
    source = pushed or store
    versions = source.name_newest(name)
    if not versions:
        return []
    protocol, fresh = claim(session, store, user, versions[-1].manifest)
    if pushed is not None and not fresh:
        raise NameTaken(f"Somebody else has made a protocol '{name}' meanwhile.")
    if protocol.owner is not None:
        accept(protocol.owner, max(source.size(name) - protocol.stored_bytes, 0))
    if pushed is not None:
        store.move_in(pushed, name)
    try:
        return [version for version in versions if register(session, store, version)]
    except BaseException:
        if pushed is not None:
            store.remove(name)
        raise


def resized(session: Session, store: ProtocolStore, name: str) -> None:
    """Note what the protocol's repository takes now, which its owner's quota counts."""
    size = store.size(name)
    session.execute(update(Protocol).where(Protocol.name == name).values(stored_bytes=size))


def _texts(manifest: Manifest) -> dict[str, Any]:
    return {"name": manifest.name, "title": manifest.title, "description": manifest.description}


def _wanted(manifest: Manifest, what: Literal["terms", "formats"]) -> list[str]:
    """The terms, or formats, of all inputs."""
    return sorted({each for slot in manifest.inputs.values() for each in getattr(slot, what)})


def delete(session: Session, viewer: User, name: str) -> None:
    """Delete the protocol with all its versions. `ProtocolInUse` if results point to one of them.

    Its repository is left to the caller, to be removed when this is committed.
    """
    protocol = to_change(session, viewer, name)
    try:
        with session.begin_nested():
            session.execute(sql_delete(ProtocolVersion).where(ProtocolVersion.protocol_id == protocol.id))
            session.execute(sql_delete(Protocol).where(Protocol.id == protocol.id))
    except IntegrityError:
        raise ProtocolInUse(f"Jobs have run the protocol '{name}', and their results point to it.") from None
    audit.record(session, Action.PROTOCOL_DELETED, name)


def list_protocols(session: Session, viewer: User, text: str = "") -> list[Protocol]:
    """The protocols that the viewer may see, by name, their versions newest first.

    Each word of `text` must be in a name, title or description.
    """
    parts = (
        selectinload(Protocol.versions),
        selectinload(Protocol.owner),
        selectinload(Protocol.shares).selectinload(ProtocolShare.user),
    )
    query = select(Protocol).options(*parts).where(visible_to(viewer)).order_by(Protocol.name)
    for word in text.split():
        has = [
            column.icontains(word, autoescape=True)
            for column in (Protocol.name, Protocol.title, Protocol.description)
        ]
        query = query.where(or_(*has))
    return list(session.scalars(query))


def _is_commit(text: str) -> ColumnElement[bool]:
    """Whether a version's commit is `text`, or begins with it where that is long enough to mean one."""
    if not _SHORT_COMMIT.fullmatch(text):
        return ProtocolVersion.commit == text
    return ProtocolVersion.commit.startswith(text)


def find_version(session: Session, viewer: User, name: str, version: str | None = None) -> ProtocolVersion:
    """A version by its name or commit, or the newest; `UnknownProtocol`, `UnknownVersion`."""
    query = select(ProtocolVersion).join(Protocol).where(Protocol.name == name, visible_to(viewer))
    if version is not None:
        query = query.where(or_(ProtocolVersion.version == version, _is_commit(version)))
    newest = query.order_by(ProtocolVersion.created_at.desc(), ProtocolVersion.id.desc()).limit(1)
    found = session.scalars(newest).one_or_none()
    if found is not None:
        return found
    there = select(func.count()).select_from(Protocol).where(Protocol.name == name, visible_to(viewer))
    if session.scalar(there) == 0:
        raise unknown(name)
    wanted = f"no version '{version[:80]}'" if version else "no version yet"
    raise UnknownVersion(f"The protocol '{name}' has {wanted}.")
