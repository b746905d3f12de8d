from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from labfleet.db.models import ProtocolVersion, User
from labfleet.errors import UnknownProtocol, UnknownVersion
from labfleet.protocols import service
from labfleet.protocols.manifest import Manifest
from labfleet.protocols.store import ProtocolStore

SOMEBODY = User(id=uuid.uuid4(), name="somebody", is_admin=False)


def take(sessions: sessionmaker[Session], store: ProtocolStore, tree: Path) -> bool:
    with sessions.begin() as session:
        return service.import_protocol(session, store, tree)[1]


def test_import_is_idempotent(sessions: sessionmaker[Session], store: ProtocolStore, tree: Path) -> None:
    assert take(sessions, store, tree)
    assert not take(sessions, store, tree)
    with sessions() as session:
        assert session.scalar(select(func.count()).select_from(ProtocolVersion)) == 1
        version = service.find_version(session, SOMEBODY, "demo")
        assert version.commit == store.resolve("demo")
        assert Manifest.model_validate(version.manifest).command == ["python3", "main.py"]


def test_what_git_has_and_the_database_lost_is_registered_again(
    sessions: sessionmaker[Session], store: ProtocolStore, tree: Path
) -> None:
    store.import_tree(tree)
    assert take(sessions, store, tree)


def test_a_new_version_renews_the_title(
    sessions: sessionmaker[Session], store: ProtocolStore, tree: Path
) -> None:
    take(sessions, store, tree)
    manifest = tree / "protocol.yml"
    manifest.write_text(
        manifest.read_text().replace("1.0.0", "1.1.0").replace("title: Demo", "title: Better")
    )
    assert take(sessions, store, tree)
    with sessions() as session:
        protocol = service.get_protocol(session, SOMEBODY, "demo")
        assert protocol.title == "Better"
        assert [version.version for version in protocol.versions] == ["1.1.0", "1.0.0"]
        assert [item.name for item in service.list_protocols(session, SOMEBODY)] == ["demo"]
        assert service.find_version(session, SOMEBODY, "demo").version == "1.1.0"
        assert service.find_version(session, SOMEBODY, "demo", "1.0.0").version == "1.0.0"
        assert service.find_version(session, SOMEBODY, "demo", protocol.versions[1].commit).version == "1.0.0"


def test_unknown_ones(sessions: sessionmaker[Session], store: ProtocolStore, tree: Path) -> None:
    take(sessions, store, tree)
    with sessions() as session:
        with pytest.raises(UnknownProtocol):
            service.get_protocol(session, SOMEBODY, "none")
        with pytest.raises(UnknownProtocol):
            service.find_version(session, SOMEBODY, "none", "1")
        with pytest.raises(UnknownVersion):
            service.find_version(session, SOMEBODY, "demo", "2")
