"""Results are reused: the same protocol version on the same inputs and parameters has been run before.

Only for protocols whose manifest says `cache: true` (a task may say otherwise), and only results of the
same owner. The reusing task gets an attempt of its own that says whose result it shows.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, and_, func, insert, literal, select, text
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session, aliased

from labfleet.db.engine import forget_plans
from labfleet.db.models import Artifact, Attempt, Job, Task
from labfleet.jobs import inputs, transition
from labfleet.jobs.states import Event, State

REUSED = "reused"
PENDING = "pending"
"""The cache key of a task whose inputs are not known before earlier tasks have ended."""


def cache_key(version_id: uuid.UUID, parameters: Mapping[str, Any], hashes: Mapping[str, str]) -> str:
    """What decides about a result: version, parameters (defaults filled in), SHA-256 by input slot."""
    content = json.dumps([str(version_id), parameters, hashes], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(content.encode()).hexdigest()


def reuse(session: Session, job: Job, which: ColumnElement[bool]) -> int:
    """End those queued tasks of the (locked) job whose result is known; how many."""
    waiting = and_(which, Task.job_id == job.id, Task.state == State.QUEUED)
    _complete_keys(session, waiting)
    pairs = _known(session, waiting)
    if not pairs:
        return 0
    ids = [task for task, _ in pairs]
    session.execute(
        text(
            "UPDATE tasks SET reused_from = known.donor FROM unnest(:tasks, :donors) AS known(task, donor)"
            " WHERE id = known.task"
        ),
        {"tasks": ids, "donors": [donor for _, donor in pairs]},
    )
    ended = transition.apply_many(
        session,
        job,
        State.QUEUED,
        Event.REUSED,
        transition.among(ids),
        {Task.progress: 1.0, Task.worker: None},
    )
    _copy_results(session, ended)
    return len(ended)


def _complete_keys(session: Session, waiting: ColumnElement[bool]) -> None:
    for task in session.scalars(select(Task).where(waiting, Task.cache_key == PENDING)).all():
        hashes = {slot: file.sha256 for slot, file in inputs.resolve(session, task).items()}
        task.cache_key = cache_key(task.protocol_version_id, task.parameters, hashes)
    session.flush()


def _known(session: Session, waiting: ColumnElement[bool]) -> list[tuple[uuid.UUID, uuid.UUID]]:
    donor = aliased(Task)
    statement = (
        select(Task.id, donor.id)
        .join(
            donor,
            and_(
                donor.cache_key == Task.cache_key,
                donor.state == State.SUCCESS,
                donor.owner_id == Task.owner_id,
                donor.id != Task.id,
            ),
        )
        .where(waiting, Task.cache_key.is_not(None))
        .ext(distinct_on(Task.id))
        .order_by(Task.id, donor.finished_at.desc())
    )
    return [(task, known) for task, known in session.execute(statement)]


def _copy_results(session: Session, ids: list[uuid.UUID]) -> None:
    donor = aliased(Task)
    attempts = (
        select(
            Task.id,
            Task.attempt,
            literal(""),
            literal(REUSED),
            func.clock_timestamp(),
            literal(REUSED),
            func.concat("The result of task ", donor.id, " is reused."),
            func.jsonb_build_object("reused_from", donor.id),
        )
        .join(donor, donor.id == Task.reused_from)
        .where(transition.among(ids))
    )
    columns = ["task_id", "number", "worker", "claim_id", "ended_at", "outcome", "message", "environment"]
    session.execute(insert(Attempt).from_select(columns, attempts))
    forget_plans(session, len(ids))
    results = (
        select(
            Task.id,
            Task.attempt,
            Artifact.name,
            Artifact.output,
            Artifact.kind,
            Artifact.media_type,
            Artifact.sha256,
            Artifact.size,
        )
        .join(donor, donor.id == Task.reused_from)
        .join(Artifact, and_(Artifact.task_id == donor.id, Artifact.attempt == donor.attempt))
        .where(transition.among(ids))
    )
    columns = ["task_id", "attempt", "name", "output", "kind", "media_type", "sha256", "size"]
    session.execute(insert(Artifact).from_select(columns, results))
