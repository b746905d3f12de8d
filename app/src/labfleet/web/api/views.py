"""Rows of the database as the API shows them."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy.orm import Session

from labfleet.datasets import previews
from labfleet.db import models
from labfleet.jobs import transition, visible
from labfleet.jobs.explain import Reason
from labfleet.jobs.placement import Worker
from labfleet.jobs.service import Provenance, Result
from labfleet.jobs.states import Failure, State
from labfleet.users import sharing
from labfleet.web.api import schemas

Reasons = Mapping[uuid.UUID, Reason]


def self_test(row: models.SelfTest) -> schemas.SelfTest:
    """One time that a version was tried."""
    told = {
        "version": row.version.version,
        "commit": row.version.commit,
        "job": row.job_id,
        "asked_by": row.asker.name if row.asker else None,
    }
    same = schemas.SelfTest.model_fields.keys() - told.keys()
    return schemas.SelfTest.model_validate({name: getattr(row, name) for name in same} | told)


def dataset(row: models.Dataset, viewer: models.User, preview: str | None) -> schemas.Dataset:
    """A dataset; `preview` is the state of its preview."""
    mine = sharing.may_change(viewer, row)
    told = {
        "visibility": sharing.visibility(row),
        "may_change": mine,
        "shared_with": shared_with(row) if mine else None,
        "owner": row.owner.name,
        "series": row.series_id,
        "previous": row.previous_id,
        "preview": preview,
    }
    same = schemas.Dataset.model_fields.keys() - told.keys()
    return schemas.Dataset.model_validate({name: getattr(row, name) for name in same} | told)


def datasets(db: Session, viewer: models.User, rows: Sequence[models.Dataset]) -> list[schemas.Dataset]:
    """Datasets with the states of their previews."""
    states = previews.states(db, rows)
    return [dataset(row, viewer, states.get(row.id)) for row in rows]


def summary(row: models.Job, viewer: models.User) -> schemas.JobSummary:
    """A job without its tasks; what is its owner's alone is left out for others."""
    return schemas.JobSummary(**_summary(row, viewer))


def job(
    row: models.Job,
    viewer: models.User,
    nodes: Iterable[models.Node],
    tasks: Iterable[models.Task],
    reasons: Reasons,
) -> schemas.Job:
    """A job with its tree and its first tasks; only who may change it is told with whom it is shared."""
    return schemas.Job(
        **_summary(row, viewer),
        shared_with=shared_with(row) if visible.may_change(viewer, row) else None,
        nodes=[schemas.NodeOut.model_validate(node) for node in nodes],
        tasks=[task(item, reasons.get(item.id)) for item in tasks],
    )


def _summary(row: models.Job, viewer: models.User) -> dict[str, Any]:
    mine = visible.may_change(viewer, row)
    tally = transition.tally(row)
    open_tasks = tally.queued + tally.running
    return {
        "id": row.id,
        "state": State(row.state),
        "label": row.label,
        "labels": row.labels,
        "note": row.note if mine else "",
        "owner": row.owner.name,
        "priority": row.priority,
        "held": row.held,
        "webhook": row.webhook if mine else None,
        "mail": row.mail if mine else None,
        "visibility": "public" if row.public else "shared" if row.has_shares else "private",
        "may_change": mine,
        "protocols": row.protocols,
        "progress": 1 - open_tasks / tally.total if tally.total else 0,
        "counts": schemas.Counts(total=tally.total, **asdict(tally)),
        "created_at": row.created_at,
        "finished_at": row.finished_at,
    }


def task(row: models.Task, reason: Reason | None = None) -> schemas.Task:
    """A task, its protocol by name; `reason` says why it waits."""
    version = row.protocol_version
    return schemas.Task(
        id=row.id,
        job=row.job_id,
        name=row.name,
        protocol=version.protocol.name,
        version=version.version,
        commit=version.commit,
        key=row.key,
        state=State(row.state),
        ready=row.ready,
        held=row.held,
        optional=row.optional,
        skipped=row.skipped,
        reused_from=row.reused_from,
        reason=schemas.Reason(code=reason.code, message=reason.message) if reason else None,
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


def worker(row: models.WorkerRow, now: Worker) -> schemas.Worker:
    """A worker as it last reported, and what it is to the dispatcher now."""
    said = {name: getattr(row, name) for name in schemas.Worker.model_fields if hasattr(row, name)}
    return schemas.Worker(**said, away=now.away, taken=now.taken)


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


def result(found: Result) -> schemas.Result:
    """An artifact with its task's name."""
    return schemas.Result(**artifact(found.artifact).model_dump(), task_name=found.task)


def provenance(found: Provenance) -> schemas.Provenance:
    """Where a result came from."""
    return schemas.Provenance(
        task=task(found.task),
        inputs=[schemas.InputFile.model_validate(item) for item in found.inputs],
        attempts=[schemas.Attempt.model_validate(item) for item in found.attempts],
        artifacts=[artifact(item) for item in found.artifacts],
    )


def artifacts(rows: Iterable[models.Artifact]) -> schemas.Artifacts:
    """The artifacts of a task."""
    return schemas.Artifacts(items=[artifact(row) for row in rows])


def protocol(row: models.Protocol, viewer: models.User) -> schemas.Protocol:
    """A protocol with its versions; only who may change it is told with whom it is shared."""
    mine = sharing.may_change(viewer, row)
    return schemas.Protocol(
        name=row.name,
        title=row.title,
        description=row.description,
        owner=row.owner.name if row.owner else None,
        visibility=sharing.visibility(row),
        may_change=mine,
        shared_with=shared_with(row) if mine else None,
        stored_bytes=row.stored_bytes,
        versions=[schemas.Version.model_validate(version) for version in row.versions],
    )


def shared_with(row: sharing.Shared) -> schemas.People:
    """With whom it is shared."""
    return schemas.People(
        users=sorted(each.user.name for each in row.shares if each.user),
        groups=sorted(each.group_name for each in row.shares if each.group_name),
    )
