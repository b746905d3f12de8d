"""The attempt API: what a worker calls while it runs one attempt, with that attempt's token."""

from __future__ import annotations

import re
import uuid
from pathlib import PurePosixPath

from flask import Response, request
from sqlalchemy.orm import Session

from labfleet import crash
from labfleet.datasets.names import check_name
from labfleet.datasets.service import media_type_for
from labfleet.db.models import Task
from labfleet.errors import Invalid
from labfleet.jobs import attempts as service
from labfleet.jobs import inputs
from labfleet.jobs.finishing import Ending
from labfleet.jobs.finishing import finish as finish_attempt
from labfleet.jobs.states import State
from labfleet.log import get_logger
from labfleet.protocols.interface import interface_of
from labfleet.protocols.manifest import Manifest
from labfleet.web import metrics
from labfleet.web.api import schemas, views
from labfleet.web.api.blueprints import attempts
from labfleet.web.api.datasets import BODY
from labfleet.web.api.jobs import BINARY, BYTES, Responses
from labfleet.web.files import read_body, receive, send_blob
from labfleet.web.services import services

_log = get_logger(__name__)
MAX_LOG_PIECE = 4 * 1024 * 1024
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
TAR: Responses = {200: {"description": "The tar", "content": {"application/x-tar": BINARY}}}
CHECKSUM = {
    "name": "X-Content-SHA256",
    "in": "header",
    "required": True,
    "schema": {"type": "string", "pattern": "^[0-9a-fA-F]{64}$"},
}


@attempts.post("/claim")
@attempts.doc(operation_id="claim_attempt")
@attempts.input(schemas.ClaimIn)
@attempts.output(schemas.Claim)
def claim(task: uuid.UUID, number: int, json_data: schemas.ClaimIn) -> schemas.Claim:
    """Claim the attempt"""
    leases = services().settings.leases
    with services().sessions.begin() as db:
        row = service.claim(
            db, task, number, json_data.worker, json_data.claim_id, lease_seconds=leases.lease_seconds
        )
        answer = _claim(db, row)
        crash.point("claim_before_commit")
    crash.point("claim_after_commit")
    metrics.begun(row)
    _log.info("attempt claimed", job=str(row.job_id), worker=json_data.worker)
    return answer


def _claim(db: Session, task: Task) -> schemas.Claim:
    version, leases = task.protocol_version, services().settings.leases
    manifest = Manifest.model_validate(version.manifest)
    interface = interface_of(manifest)
    return schemas.Claim(
        lease_seconds=leases.lease_seconds,
        heartbeat_seconds=leases.heartbeat_seconds,
        protocol=schemas.ClaimedProtocol(
            name=version.protocol.name,
            version=version.version,
            commit=version.commit,
            command=manifest.command,
            outputs=interface["outputs"],
            needs=interface["needs"],
            environment=interface["environment"],
        ),
        parameters=task.parameters,
        inputs=_inputs(db, task),
        limits=_limits(manifest),
    )


def _inputs(db: Session, task: Task) -> list[schemas.ClaimedInput]:
    return [
        schemas.ClaimedInput(slot=slot, name=file.name, sha256=file.sha256, size=file.size)
        for slot, file in inputs.resolve(db, task).items()
    ]


def _limits(manifest: Manifest) -> schemas.ClaimLimits:
    """What the protocol asks for, as far as the server grants it."""
    limits = services().settings.limits
    return schemas.ClaimLimits(
        wall_seconds=min(manifest.needs.wall_seconds, limits.wall_seconds),
        cpu_seconds=limits.cpu_seconds,
        memory_bytes=min(manifest.needs.memory_bytes, limits.memory_bytes),
        log_bytes=limits.log_bytes,
        output_bytes=limits.output_bytes,
        processes=limits.processes,
    )


@attempts.post("/heartbeat")
@attempts.doc(operation_id="send_heartbeat")
@attempts.input(schemas.HeartbeatIn)
@attempts.output(schemas.Heartbeat)
def heartbeat(task: uuid.UUID, number: int, json_data: schemas.HeartbeatIn) -> schemas.Heartbeat:
    """Extend the lease"""
    seconds = services().settings.leases.lease_seconds
    with services().sessions.begin() as db:
        cancel = service.heartbeat(db, task, number, lease_seconds=seconds, **json_data.model_dump())
    crash.point("heartbeat_after_commit")
    return schemas.Heartbeat(lease_seconds=seconds, cancel=cancel)


@attempts.put("/log")
@attempts.doc(operation_id="append_log", extensions={"requestBody": BODY})
@attempts.input(schemas.AppendQuery, location="query")
@attempts.output(schemas.Appended)
def append_log(task: uuid.UUID, number: int, query_data: schemas.AppendQuery) -> schemas.Appended:
    """Append to the log"""
    piece = read_body(MAX_LOG_PIECE)
    with services().sessions.begin() as db:
        place = service.append_log_position(db, task, number, query_data.offset, len(piece))
        fresh = piece[place.skip :]
        services().logs.write(task, number, place.position, fresh)
    return schemas.Appended(size=place.position + len(fresh))


@attempts.get("/protocol")
@attempts.doc(operation_id="fetch_protocol", responses=TAR)
def protocol(task: uuid.UUID, number: int) -> Response:
    """Fetch the protocol's files"""
    with services().sessions.begin() as db:
        version = service.require_current(db, task, number).protocol_version
        name, commit = version.protocol.name, version.commit
    return Response(services().protocols.archive(name, commit), content_type="application/x-tar")


@attempts.get("/inputs/<slot>")
@attempts.doc(operation_id="fetch_input", responses=BYTES)
def fetch_input(task: uuid.UUID, number: int, slot: str) -> Response:
    """Fetch an input"""
    with services().sessions.begin() as db:
        row = service.require_current(db, task, number)
        file = inputs.resolve_one(db, row, slot)
    return send_blob(file.sha256, file.name, file.media_type)


@attempts.put("/artifacts/<path:name>")
@attempts.doc(
    operation_id="upload_artifact",
    extensions={"requestBody": BODY, "x-labfleet-parameters": [CHECKSUM]},
)
@attempts.input(schemas.ArtifactQuery, location="query")
@attempts.output(schemas.Artifact)
def upload_artifact(
    task: uuid.UUID, number: int, name: str, query_data: schemas.ArtifactQuery
) -> schemas.Artifact:
    """Upload an artifact"""
    name, checksum = _artifact_name(name), _checksum()
    with services().sessions.begin() as db:
        service.require_current(db, task, number)  # before the bytes travel; no lock while they do
    blob = receive(services().settings.limits.output_bytes, checksum)
    new = service.NewArtifact(
        name=name,
        kind=query_data.kind,
        media_type=media_type_for(name, request.mimetype),
        sha256=blob.sha256,
        size=blob.size,
        output=query_data.output,
    )
    with services().sessions.begin() as db:
        artifact = views.artifact(service.record_artifact(db, task, number, new))
        crash.point("artifact_before_commit")
    return artifact


def _artifact_name(name: str) -> str:
    """An output may lie in a directory of the outputs, so its name is one or more plain names."""
    return str(PurePosixPath(*(check_name(part) for part in name.split("/"))))


def _checksum() -> str:
    checksum = request.headers.get("X-Content-SHA256", "")
    if not _SHA256.fullmatch(checksum):
        raise Invalid("The header X-Content-SHA256 is not the hexadecimal SHA-256 of the file.")
    return checksum.lower()


@attempts.post("/finish")
@attempts.doc(operation_id="finish_attempt")
@attempts.input(schemas.FinishIn)
@attempts.output(schemas.Finished)
def finish(task: uuid.UUID, number: int, json_data: schemas.FinishIn) -> schemas.Finished:
    """End the attempt"""
    ending = Ending(**json_data.model_dump())
    retry = services().settings.leases.retry_seconds
    with services().sessions.begin() as db:
        row = finish_attempt(db, task, number, ending, retry_seconds=retry)
        answer = schemas.Finished(state=State(row.state), attempt=row.attempt)
        crash.point("finish_before_commit")
    crash.point("finish_after_commit")
    metrics.ended(row.key, ending)
    _log.info("attempt ended", job=str(row.job_id), outcome=ending.outcome, failure=ending.failure)
    return answer
