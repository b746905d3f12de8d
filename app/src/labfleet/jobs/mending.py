"""Database and store compared: what one knows and the other lacks, and what can be done about it.

After a restore the two may be minutes apart. A result whose file is missing is made again by running its
task again; an upload that is missing can only be named. Logs are cut to what the database knows of them,
so that what is written next lands where it is looked for.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from labfleet.datasets.logs import LogStore
from labfleet.datasets.store import CHUNK, BlobStore
from labfleet.db.models import Artifact, Attempt, Blob, Dataset, Protocol, ProtocolVersion, Task, User
from labfleet.errors import LabfleetError
from labfleet.jobs import verbs
from labfleet.jobs.states import FINAL
from labfleet.protocols.store import ProtocolStore

T = TypeVar("T")
BATCH = 1000
_LOG_ENDING = ".log"


@dataclass(frozen=True)
class Stores:
    """Where files lie."""

    blobs: BlobStore
    logs: LogStore
    protocols: ProtocolStore


@dataclass(frozen=True)
class LogFile:
    """A log whose file is not as long as the database says; `known` is None where it knows of none."""

    task: uuid.UUID
    attempt: int
    size: int
    known: int | None


@dataclass
class Findings:
    """What does not fit. Empty, and everything does."""

    files: list[str] = field(default_factory=list)
    datasets: list[Dataset] = field(default_factory=list)
    tasks: list[uuid.UUID] = field(default_factory=list)
    versions: list[str] = field(default_factory=list)
    logs: list[LogFile] = field(default_factory=list)

    @property
    def beyond_mending(self) -> bool:
        """Whether something is missing that running tasks again does not bring back."""
        return bool(self.datasets or self.versions)

    @property
    def nothing(self) -> bool:
        """Whether all fits; a file that no dataset and no result needs any more is no fault."""
        return not (self.datasets or self.tasks or self.versions or self.logs)


def find(session: Session, stores: Stores, *, read: bool = False) -> Findings:
    """Compare all that the database knows with the files; with `read`, their content with its SHA-256."""
    found = Findings(files=list(_missing(session, stores.blobs, read=read)))
    for some in _batches(found.files):
        found.datasets += session.scalars(select(Dataset).where(Dataset.sha256.in_(some))).all()
        # What counts of a task is its present attempt; of others there is nothing to get back.
        results = (
            select(Task.id)
            .join(Artifact, (Artifact.task_id == Task.id) & (Artifact.attempt == Task.attempt))
            .where(Artifact.sha256.in_(some), Task.state.in_([state.value for state in FINAL]))
            .distinct()
        )
        found.tasks += (task for task in session.scalars(results) if task not in set(found.tasks))
    found.versions = list(_versions(session, stores.protocols))
    found.logs = list(_logs(session, stores.logs))
    return found


def mend(session: Session, stores: Stores, found: Findings, *, max_attempts: int) -> None:
    """Give back the tasks whose results are missing, and bring logs and database together.

    Nobody may write meanwhile: of a log that grows the database does not know the end yet.
    """
    everybody = User(name="store check", is_admin=True)
    keys = _unknown(session, found.tasks)
    for task in found.tasks:
        verbs.force_retry_task(session, everybody, task, max_attempts=max_attempts)
    for task, key in keys.items():
        session.execute(update(Task).where(Task.id == task).values(cache_key=key))
    for log in found.logs:
        _mend_log(session, stores.logs, log)


def _unknown(session: Session, tasks: list[uuid.UUID]) -> dict[uuid.UUID, str]:
    """Take the tasks' cache keys away for a while: what is missing must not be reused. Gives the keys."""
    rows = select(Task.id, Task.cache_key).where(Task.id.in_(tasks), Task.cache_key.is_not(None))
    keys = {task: str(key) for task, key in session.execute(rows)}
    session.execute(update(Task).where(Task.id.in_(list(keys))).values(cache_key=None))
    return keys


def _missing(session: Session, store: BlobStore, *, read: bool) -> Iterator[str]:
    rows = select(Blob.sha256, Blob.size).order_by(Blob.sha256).execution_options(yield_per=BATCH)
    for sha256, size in session.execute(rows):
        path = store.path(sha256)
        try:
            whole = path.stat().st_size == size and not (read and _digest(store, sha256) != sha256)
        except FileNotFoundError:
            whole = False
        if not whole:
            yield sha256


def _digest(store: BlobStore, sha256: str) -> str:
    digest = hashlib.sha256()
    with store.open(sha256) as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _versions(session: Session, protocols: ProtocolStore) -> Iterator[str]:
    columns = (Protocol.name, ProtocolVersion.version, ProtocolVersion.commit)
    rows = select(*columns).join(ProtocolVersion.protocol).order_by(Protocol.name, ProtocolVersion.version)
    for name, version, commit in session.execute(rows):
        try:
            known = protocols.versions(name).get(version)
            if known == commit:
                protocols.manifest(name, commit)
                continue
        except LabfleetError:
            pass
        yield f"{name} {version}"


def _logs(session: Session, logs: LogStore) -> Iterator[LogFile]:
    rows = select(Attempt.task_id, Attempt.number, Attempt.log_size).where(Attempt.log_size > 0)
    for task, number, known in session.execute(rows.execution_options(yield_per=BATCH)):
        _, size = logs.read(task, number, 0, 0)
        if size < known:
            yield LogFile(task, number, size, known)
    for some in _batches(list(_present(logs))):
        attempts = select(Attempt.task_id, Attempt.number, Attempt.log_size).where(
            Attempt.task_id.in_({task for task, _, _ in some})
        )
        sizes = {(task, number): size for task, number, size in session.execute(attempts)}
        for task, number, size in some:
            known_size = sizes.get((task, number))
            if known_size is None or size > known_size:
                yield LogFile(task, number, size, known_size)


def _present(logs: LogStore) -> Iterator[tuple[uuid.UUID, int, int]]:
    with os.scandir(logs.directory) as entries:
        for entry in entries:
            task, _, number = entry.name.removesuffix(_LOG_ENDING).partition(".")
            try:
                yield uuid.UUID(task), int(number), entry.stat().st_size
            except ValueError:
                continue  # not a log's name: not ours


def _mend_log(session: Session, logs: LogStore, log: LogFile) -> None:
    path = logs.path(log.task, log.attempt)
    if log.known is None:
        path.unlink()
    elif log.size > log.known:
        os.truncate(path, log.known)
    else:
        which = (Attempt.task_id == log.task, Attempt.number == log.attempt)
        session.execute(update(Attempt).where(*which).values(log_size=log.size))


def _batches(items: list[T]) -> Iterator[list[T]]:
    return (items[start : start + BATCH] for start in range(0, len(items), BATCH))
