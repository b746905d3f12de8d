"""How a request becomes rows: resolve what it names, check it, insert it once."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from labfleet.db.models import Dataset, Job, Protocol, ProtocolVersion, Task, User
from labfleet.errors import IdempotencyMismatch, Invalid, UnknownDataset, UnknownProtocol, UnknownVersion
from labfleet.jobs import outbox, transition
from labfleet.jobs.parameters import checked_parameters, checked_slots
from labfleet.jobs.states import Event, State

MAX_LABEL = 200
MAX_KEY = 200


@dataclass(frozen=True)
class JobRequest:
    """What somebody asks for. `version` None means the newest; `inputs` is slot → dataset id."""

    protocol: str
    version: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, uuid.UUID] = field(default_factory=dict)
    label: str = ""


def submit(
    session: Session, owner: User, request: JobRequest, key: str | None, max_attempts: int
) -> uuid.UUID:
    """The id of the job that the request made, now or earlier under the same key."""
    spec = _spec(request, key)
    if earlier := _earlier(session, owner, key, spec):
        return earlier
    version = resolve_version(session, request.protocol, request.version)
    parameters = checked_parameters(version.manifest, request.parameters)
    checked_slots(version.manifest, request.inputs)
    _check_datasets(session, owner, request.inputs)
    job_id = _insert_job(session, owner, request.label, spec, key)
    if job_id is None:  # somebody else with the same key was quicker, and has committed by now
        return _earlier(session, owner, key, spec) or _vanished(key)
    task = Task(
        job_id=job_id,
        protocol_version_id=version.id,
        key=version.manifest["key"],
        parameters=parameters,
        inputs=spec["inputs"],
        max_attempts=max_attempts,
    )
    _insert_task(session, task)
    return job_id


def resolve_version(session: Session, name: str, version: str | None) -> ProtocolVersion:
    """The version with this tag or commit, the newest for None; `UnknownProtocol`, `UnknownVersion`."""
    protocol_id = session.scalar(select(Protocol.id).where(Protocol.name == name))
    if protocol_id is None:
        raise UnknownProtocol(f"There is no protocol '{name}'.")
    statement = select(ProtocolVersion).where(ProtocolVersion.protocol_id == protocol_id)
    if version is not None:
        statement = statement.where(
            (ProtocolVersion.version == version) | (ProtocolVersion.commit == version)
        )
    found = session.scalars(statement.order_by(ProtocolVersion.created_at.desc()).limit(1)).first()
    if found is None:
        wanted = f"version '{version}'" if version else "any version"
        raise UnknownVersion(f"The protocol '{name}' does not have {wanted}.")
    return found


def _spec(request: JobRequest, key: str | None) -> dict[str, Any]:
    if len(request.label) > MAX_LABEL:
        raise Invalid(f"The label has {len(request.label)} characters; {MAX_LABEL} are allowed.")
    if key is not None and not 0 < len(key) <= MAX_KEY:
        raise Invalid(f"An Idempotency-Key has 1 to {MAX_KEY} characters.")
    return {
        "protocol": request.protocol,
        "version": request.version,
        "parameters": dict(request.parameters),
        "inputs": {slot: str(dataset) for slot, dataset in request.inputs.items()},
        "label": request.label,
    }


def _earlier(session: Session, owner: User, key: str | None, spec: Mapping[str, Any]) -> uuid.UUID | None:
    if key is None:
        return None
    statement = select(Job.id, Job.spec).where(Job.owner_id == owner.id, Job.idempotency_key == key)
    found = session.execute(statement).one_or_none()
    if found is None:
        return None
    job_id: uuid.UUID = found.id
    if found.spec != spec:
        raise IdempotencyMismatch(f"The Idempotency-Key '{key}' belongs to job {job_id}, another request.")
    return job_id


def _vanished(key: str | None) -> uuid.UUID:
    raise RuntimeError(f"the job of idempotency key {key!r} vanished within a transaction")


def _check_datasets(session: Session, owner: User, inputs: Mapping[str, uuid.UUID]) -> None:
    statement = select(Dataset.id).where(Dataset.id.in_(inputs.values()))
    if not owner.is_admin:
        statement = statement.where(Dataset.owner_id == owner.id)
    known = set(session.scalars(statement))
    for slot, dataset in inputs.items():
        if dataset not in known:
            raise UnknownDataset(f"There is no dataset {dataset} for the input slot '{slot}'.")


def _insert_job(
    session: Session, owner: User, label: str, spec: Mapping[str, Any], key: str | None
) -> uuid.UUID | None:
    values = {"owner_id": owner.id, "label": label, "spec": spec, "idempotency_key": key}
    statement = (
        insert(Job).values(values).on_conflict_do_nothing(index_elements=[Job.owner_id, Job.idempotency_key])
    )
    return session.scalar(statement.returning(Job.id))


def _insert_task(session: Session, task: Task) -> None:
    session.add(task)
    session.flush()
    transition.record(session, task, Event.SUBMITTED, None, State.QUEUED)
    outbox.enqueue(session, task, "run")
