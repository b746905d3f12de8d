"""Protocols in the database: which there are, in which versions. The code itself lies in `store`.

As everywhere, these functions take a session and never commit.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, selectinload

from labfleet.db.models import Protocol, ProtocolVersion
from labfleet.errors import UnknownProtocol, UnknownVersion
from labfleet.protocols.store import ProtocolStore, Version


def import_protocol(session: Session, store: ProtocolStore, directory: Path) -> tuple[Version, bool]:
    """Keep the protocol of `directory` in git and register it; gives it and whether anything changed."""
    version = store.import_tree(directory)
    registered = register(session, version)
    return version, version.created or registered


def register(session: Session, version: Version) -> bool:
    """Enter a version that the store has; True if it was not there. The newest one's title counts."""
    manifest = version.manifest
    texts = {"title": manifest.title, "description": manifest.description}
    session.execute(insert(Protocol).values(name=manifest.name, **texts).on_conflict_do_nothing())
    protocol = session.scalars(select(Protocol).where(Protocol.name == manifest.name).with_for_update()).one()
    entered = session.execute(
        insert(ProtocolVersion)
        .values(
            protocol_id=protocol.id,
            commit=version.commit,
            version=manifest.version,
            manifest=manifest.model_dump(mode="json"),
        )
        .on_conflict_do_nothing()
        .returning(ProtocolVersion.id)
    ).first()
    if entered is not None:
        protocol.title, protocol.description = manifest.title, manifest.description
        session.flush()
    return entered is not None


def list_protocols(session: Session) -> list[Protocol]:
    """All protocols by name, their versions newest first."""
    query = select(Protocol).options(selectinload(Protocol.versions)).order_by(Protocol.name)
    return list(session.scalars(query))


def get_protocol(session: Session, name: str) -> Protocol:
    """One protocol with its versions, newest first; `UnknownProtocol`."""
    query = select(Protocol).options(selectinload(Protocol.versions)).where(Protocol.name == name)
    protocol = session.scalars(query).one_or_none()
    if protocol is None:
        raise UnknownProtocol(f"There is no protocol '{name[:80]}'.")
    return protocol


def find_version(session: Session, name: str, version: str | None = None) -> ProtocolVersion:
    """A version by its name or commit, or the newest; `UnknownProtocol`, `UnknownVersion`."""
    query = select(ProtocolVersion).join(Protocol).where(Protocol.name == name)
    if version is not None:
        query = query.where((ProtocolVersion.version == version) | (ProtocolVersion.commit == version))
    newest = query.order_by(ProtocolVersion.created_at.desc(), ProtocolVersion.id.desc()).limit(1)
    found = session.scalars(newest).one_or_none()
    if found is not None:
        return found
    if session.scalar(select(func.count()).select_from(Protocol).where(Protocol.name == name)) == 0:
        raise UnknownProtocol(f"There is no protocol '{name[:80]}'.")
    wanted = f"no version '{version[:80]}'" if version else "no version yet"
    raise UnknownVersion(f"The protocol '{name}' has {wanted}.")
