"""Jobs and tasks: submit, look, cancel."""

from __future__ import annotations

import re
import uuid
from typing import Any

from flask import Response, request

from labfleet.errors import Invalid
from labfleet.jobs import service
from labfleet.jobs.service import JobRequest
from labfleet.web.api import schemas, views
from labfleet.web.api.blueprints import user
from labfleet.web.auth import current_user
from labfleet.web.files import send_blob
from labfleet.web.services import services

LOG_CHUNK = 1024 * 1024
_KEY = re.compile(r"[!-~]{1,200}")
KEY_HEADER = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The same key again returns the job that was made with it.",
    "schema": {"type": "string", "pattern": "^[!-~]{1,200}$"},
}
Responses = dict[int | str, dict[str, str | dict[str, dict[str, Any]]]]
TEXT: Responses = {
    200: {"description": "The bytes", "content": {"text/plain": {"schema": {"type": "string"}}}}
}
BINARY = {"schema": {"type": "string", "format": "binary"}}
BYTES: Responses = {200: {"description": "The bytes", "content": {"*/*": BINARY}}}


@user.post("/jobs")
@user.doc(tags=["jobs"], operation_id="submit_job", extensions={"x-labfleet-parameters": [KEY_HEADER]})
@user.input(schemas.JobIn)
@user.output(schemas.Job, status_code=201)
def submit(json_data: schemas.JobIn) -> tuple[schemas.Job, int, dict[str, str]]:
    """Submit a job"""
    wanted = JobRequest(**json_data.model_dump())
    with services().sessions.begin() as db:
        job = service.submit(
            db,
            current_user(),
            wanted,
            idempotency_key(),
            max_attempts=services().settings.leases.max_attempts,
        )
        answer = views.job(job)
    return answer, 201, {"Location": f"/api/v1/jobs/{answer.id}"}


def idempotency_key() -> str | None:
    """The request's Idempotency-Key; `Invalid` for one that can't be kept."""
    key = request.headers.get("Idempotency-Key")
    if key is not None and not _KEY.fullmatch(key):
        raise Invalid("An Idempotency-Key has 1 to 200 visible ASCII characters.")
    return key


@user.get("/jobs")
@user.doc(tags=["jobs"], operation_id="list_jobs")
@user.input(schemas.JobsQuery, location="query")
@user.output(schemas.Jobs)
def list_jobs(query_data: schemas.JobsQuery) -> schemas.Jobs:
    """List your jobs"""
    limit = min(query_data.limit, services().settings.web.page_size_max)
    with services().sessions() as db:
        page = service.list_jobs(db, current_user(), query_data.state, limit, query_data.after)
        return schemas.Jobs(items=[views.job(job) for job in page.items], next=page.next)


@user.get("/jobs/<uuid:job>")
@user.doc(tags=["jobs"], operation_id="show_job")
@user.output(schemas.Job)
def show_job(job: uuid.UUID) -> schemas.Job:
    """Show a job with its tasks"""
    with services().sessions() as db:
        return views.job(service.get_job(db, current_user(), job))


@user.post("/jobs/<uuid:job>/cancel")
@user.doc(tags=["jobs"], operation_id="cancel_job")
@user.output(schemas.Job)
def cancel_job(job: uuid.UUID) -> schemas.Job:
    """Cancel a job"""
    with services().sessions.begin() as db:
        return views.job(service.cancel_job(db, current_user(), job))


@user.get("/tasks/<uuid:task>")
@user.doc(tags=["tasks"], operation_id="show_task")
@user.output(schemas.Task)
def show_task(task: uuid.UUID) -> schemas.Task:
    """Show a task"""
    with services().sessions() as db:
        return views.task(service.get_task(db, current_user(), task))


@user.get("/tasks/<uuid:task>/log")
@user.doc(tags=["tasks"], operation_id="read_log", responses=TEXT)
@user.input(schemas.LogQuery, location="query")
def read_log(task: uuid.UUID, query_data: schemas.LogQuery) -> Response:
    """Read a task's log

    At most 1 MiB from `offset` on. `X-Log-Size` tells how long the log is, `X-Log-Attempt` whose it is.
    """
    with services().sessions() as db:
        found = service.get_task(db, current_user(), task)
    attempt = query_data.attempt or found.attempt
    data, size = services().logs.read(found.id, attempt, query_data.offset, LOG_CHUNK)
    headers = {"X-Log-Size": str(size), "X-Log-Attempt": str(attempt)}
    return Response(data, headers=headers, content_type="text/plain; charset=utf-8")


@user.get("/tasks/<uuid:task>/events")
@user.doc(tags=["tasks"], operation_id="list_events")
@user.output(schemas.Events)
def list_events(task: uuid.UUID) -> schemas.Events:
    """List what happened to a task"""
    with services().sessions() as db:
        rows = service.task_events(db, current_user(), task)
        return schemas.Events(items=[schemas.Event.model_validate(row) for row in rows])


@user.get("/tasks/<uuid:task>/artifacts")
@user.doc(tags=["artifacts"], operation_id="list_artifacts")
@user.output(schemas.Artifacts)
def list_artifacts(task: uuid.UUID) -> schemas.Artifacts:
    """List a task's artifacts"""
    with services().sessions() as db:
        return views.artifacts(service.task_artifacts(db, current_user(), task))


@user.get("/artifacts/<uuid:artifact>")
@user.doc(tags=["artifacts"], operation_id="show_artifact")
@user.output(schemas.Artifact)
def show_artifact(artifact: uuid.UUID) -> schemas.Artifact:
    """Show an artifact"""
    with services().sessions() as db:
        return views.artifact(service.get_artifact(db, current_user(), artifact))


@user.get("/artifacts/<uuid:artifact>/content")
@user.doc(tags=["artifacts"], operation_id="download_artifact", responses=BYTES)
def download_artifact(artifact: uuid.UUID) -> Response:
    """Download an artifact"""
    with services().sessions() as db:
        found = service.get_artifact(db, current_user(), artifact)
    return send_blob(found.sha256, found.name, found.media_type)
