"""Everything that a crate tells of a job, out of the database and the protocols' repositories."""

from __future__ import annotations

import tarfile
import tempfile
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

from sqlalchemy import and_, select
from sqlalchemy.orm import Session, selectinload

from labfleet.db.models import Attempt, Dataset, Job, Protocol, ProtocolVersion, Task, User
from labfleet.errors import TooLarge, WrongState
from labfleet.jobs import inputs, service
from labfleet.jobs.service import Result
from labfleet.jobs.states import State
from labfleet.jobs.visible import may_change, request_for
from labfleet.protocols.access import visible_to
from labfleet.protocols.store import ProtocolStore

SPOOLED_BYTES = 8 * 1024**2


@dataclass(frozen=True)
class Source:
    """A protocol's version. `files` is its tar; None where whoever asks may not see the protocol any more."""

    version: ProtocolVersion
    tree: str
    files: IO[bytes] | None

    @property
    def folder(self) -> str:
        """Where its files lie in the crate."""
        return f"protocols/{self.version.protocol.name}/{self.version.commit[:12]}/"

    def members(self) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
        """Its files and links."""
        if self.files is not None:
            self.files.seek(0)
            with tarfile.open(fileobj=self.files, mode="r:") as tar:
                for member in tar:
                    if member.isreg() or member.issym():
                        yield tar, member


@dataclass
class Facts:
    """What is told. Datasets by id, attempts (those that count) by task. `note` and `request` are as they are
    for whoever asks, and so are the datasets whose content may be in it (`given`); of others name, size and
    SHA-256 are told."""

    job: Job
    owner: User
    note: str
    request: Mapping[str, Any]
    tasks: Sequence[Task]
    attempts: Mapping[uuid.UUID, Attempt]
    datasets: Mapping[uuid.UUID, Dataset]
    given: Collection[uuid.UUID]
    results: Sequence[Result]
    sources: dict[uuid.UUID, Source] = field(default_factory=dict)

    def close(self) -> None:
        """Let go of the protocols' files."""
        for source in self.sources.values():
            if source.files is not None:
                source.files.close()


def gather(
    session: Session,
    viewer: User,
    job_id: uuid.UUID,
    protocols: ProtocolStore,
    *,
    most_bytes: int,
    most_files: int,
) -> Facts:
    """The facts of a job that has ended, for one who may see it; `close` them. `WrongState`, `TooLarge`.

    The description is made of them while the session is open; the files need it no more.
    """
    job = service.read_job(session, viewer, job_id)
    if not State(job.state).final:
        raise WrongState(
            f"The job is {job.state}; a crate tells of one that has ended.",
            hint="Wait for its end, or cancel it.",
            state=job.state,
        )
    results, more = service.job_results(session, viewer, job_id, most_files, None)
    tasks = session.scalars(
        select(Task)
        .options(selectinload(Task.protocol_version).selectinload(ProtocolVersion.protocol))
        .where(Task.job_id == job_id)
        .order_by(Task.sequence)
        .limit(most_files + 1)
    ).all()
    datasets, given = _datasets(session, tasks), inputs.visible_ids(session, viewer, tasks)
    files = {item.sha256: item.size for item in datasets.values() if item.id in given}
    size = sum(files.values()) + sum(item.artifact.size for item in results)
    if more or len(tasks) > most_files or size > most_bytes:
        raise TooLarge(
            f"The job is more than one crate may hold ({most_bytes} bytes, {most_files} tasks and files).",
            hint="'labfleet fetch' brings its results one by one, 'labfleet provenance' tells of each task.",
        )
    counts = and_(Attempt.task_id == Task.id, Attempt.number == Task.attempt)
    attempts = session.scalars(select(Attempt).join(Task, counts).where(Task.job_id == job_id))
    owner = session.get_one(User, job.owner_id)
    facts = Facts(
        job,
        owner,
        job.note if may_change(viewer, job) else "",
        request_for(viewer, job),
        tasks,
        {each.task_id: each for each in attempts},
        datasets,
        given,
        results,
    )
    try:
        _add_sources(session, viewer, facts, protocols)
    except BaseException:
        facts.close()
        raise
    return facts


def _datasets(session: Session, tasks: Sequence[Task]) -> dict[uuid.UUID, Dataset]:
    ids = {uuid.UUID(given) for task in tasks for given in task.inputs.values() if isinstance(given, str)}
    return {each.id: each for each in session.scalars(select(Dataset).where(Dataset.id.in_(ids)))}


def _add_sources(session: Session, viewer: User, facts: Facts, protocols: ProtocolStore) -> None:
    versions = {task.protocol_version_id: task.protocol_version for task in facts.tasks}
    wanted = Protocol.id.in_({version.protocol_id for version in versions.values()})
    seen = set(session.scalars(select(Protocol.id).where(wanted, visible_to(viewer))))
    for key, version in versions.items():
        name = version.protocol.name
        file = _spooled(protocols, name, version.commit) if version.protocol_id in seen else None
        facts.sources[key] = Source(version, protocols.tree(name, version.commit), file)


def _spooled(protocols: ProtocolStore, name: str, commit: str) -> IO[bytes]:
    file = tempfile.SpooledTemporaryFile(SPOOLED_BYTES)  # noqa: SIM115  (`close` is in the facts)
    for chunk in protocols.archive(name, commit):
        file.write(chunk)
    return file
