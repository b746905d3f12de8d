"""Protocols that users send: unpacked, checked, weighed against the owner's quota, and kept."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import BinaryIO

from labfleet.db.models import User
from labfleet.jobs import quotas
from labfleet.protocols import service
from labfleet.protocols.archive import extract
from labfleet.protocols.check import inner
from labfleet.protocols.store import Version
from labfleet.web.services import services


def keep_archive(user: User, source: BinaryIO, name: str | None = None) -> Version:
    """Keep the protocol in a tar or tar.gz; see `keep_tree`. `ArchiveError` if it can't even be unpacked."""
    with tempfile.TemporaryDirectory(prefix="labfleet-protocol-") as place:
        directory = Path(place)
        extract(source, directory)
        return keep_tree(user, inner(directory), name)


def keep_tree(user: User, directory: Path, name: str | None = None) -> Version:
    """Keep the protocol in `directory` as a new one of the user's, or as a new version of one of theirs.

    It is kept whole or not at all; see `protocols.service.keep` for what is raised.
    """
    parts = services()
    with parts.sessions.begin() as db:
        return service.keep(
            db,
            parts.protocols,
            user,
            directory,
            name=name,
            accept=lambda owner, size: quotas.claim_storage(db, owner, size),
        )
