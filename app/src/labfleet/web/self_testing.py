"""Trying a version: the files of the protocol become datasets of whoever asks, then a job is submitted."""

from __future__ import annotations

import hashlib
import io
import uuid
from pathlib import PurePosixPath

from labfleet.datasets import service as datasets
from labfleet.db.models import ProtocolVersion, SelfTest, User
from labfleet.errors import Invalid
from labfleet.jobs import quotas, self_tests
from labfleet.protocols import service as protocols
from labfleet.protocols.archive import DEFAULT_LIMITS
from labfleet.web import tracing
from labfleet.web.services import services


def begin(user: User, name: str, version: str | None) -> uuid.UUID:
    """Try a version that the user may see; the self-test's id. `NoSelfTest` if it does not say how."""
    parts = services()
    with parts.sessions() as db:
        found = protocols.find_version(db, user, name, version)
        wanted = self_tests.required(found).inputs
        db.expunge_all()
    inputs = {slot: _dataset(user, found, path) for slot, path in wanted.items()}
    with parts.sessions.begin() as db:
        quotas.check_storage(db, user, 0)
        row = self_tests.begin(
            db,
            user,
            protocols.find_version(db, user, name, found.commit),
            inputs,
            max_attempts=parts.settings.leases.max_attempts,
            limits=parts.settings.jobs,
        )
        job, identity = row.job_id, row.id
    if job is not None:
        tracing.submitted(job, [], 1)
    return identity


def verdicts(user: User, name: str) -> list[SelfTest]:
    """The last self-test of each version of the protocol, judged as far as its job has ended."""
    parts = services()
    with parts.sessions.begin() as db:
        ids = [each.id for each in protocols.get_protocol(db, user, name).versions]
        self_tests.settle(db, parts.store, ids, parts.settings.web.view_max_bytes)
    with parts.sessions() as db:
        found = self_tests.last_of(db, ids)
        for each in found:
            _ = (each.version.version, each.asker)
        db.expunge_all()
    return found


def _dataset(user: User, version: ProtocolVersion, path: str) -> uuid.UUID:
    """A dataset of the user's with what a file of the protocol holds; made where there is none."""
    parts, protocol = services(), version.protocol.name
    content = parts.protocols.file(protocol, version.commit, path, DEFAULT_LIMITS.file_bytes + 1)
    if content is None:
        raise Invalid(f"{protocol} {version.version} has no file {path}.", hint="Its author must add it.")
    name = f"{protocol}-{PurePosixPath(path).name}"
    with parts.sessions() as db:
        earlier = datasets.same_as(db, user, name, hashlib.sha256(content).hexdigest())
        if earlier is not None:
            return earlier
        quotas.check_storage(db, user, len(content))
    with parts.sessions.begin() as db:
        blob = parts.store.put(
            io.BytesIO(content),
            limit=parts.settings.web.max_upload_bytes,
            accept=lambda received: quotas.claim_storage(db, user, received.size),
        )
        return datasets.add_dataset(db, user, name, "", blob).id
