"""Rows of the database as the API shows them."""

from __future__ import annotations

from collections.abc import Iterable

from labfleet.db import models
from labfleet.jobs.states import Failure, State
from labfleet.web.api import schemas


def job(row: models.Job) -> schemas.Job:
    """A job with its tasks."""
    return schemas.Job(
        id=row.id,
        state=State(row.state),
        label=row.label,
        owner=row.owner.name,
        created_at=row.created_at,
        finished_at=row.finished_at,
        tasks=[task(item) for item in row.tasks],
    )


def task(row: models.Task) -> schemas.Task:
    """A task, its protocol by name."""
    version = row.protocol_version
    return schemas.Task(
        id=row.id,
        job=row.job_id,
        protocol=version.protocol.name,
        version=version.version,
        commit=version.commit,
        key=row.key,
        state=State(row.state),
        failure=Failure(row.failure) if row.failure else None,
        message=row.message,
        attempt=row.attempt,
        max_attempts=row.max_attempts,
        progress=row.progress,
        progress_text=row.progress_text,
        worker=row.worker,
        exit_code=row.exit_code,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        parameters=row.parameters,
        inputs=row.inputs,
    )


def artifact(row: models.Artifact) -> schemas.Artifact:
    """A result file."""
    return schemas.Artifact(
        id=row.id,
        task=row.task_id,
        name=row.name,
        kind=row.kind,
        media_type=row.media_type,
        size=row.size,
        sha256=row.sha256,
    )


def artifacts(rows: Iterable[models.Artifact]) -> schemas.Artifacts:
    """The artifacts of a task."""
    return schemas.Artifacts(items=[artifact(row) for row in rows])


def protocol(row: models.Protocol) -> schemas.Protocol:
    """A protocol with its versions."""
    return schemas.Protocol.model_validate(row)
