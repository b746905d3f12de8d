"""What can be done to jobs and tasks: cancel, retry, reset, delete … one by one and in bulk."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from flask import Response, jsonify
from sqlalchemy.orm import Session

from labfleet.db.models import Job
from labfleet.errors import LabfleetError
from labfleet.jobs import access, search, service, spec, verbs
from labfleet.jobs.visible import request_for
from labfleet.users.scopes import Scope
from labfleet.web.api import schemas, views
from labfleet.web.api.blueprints import user
from labfleet.web.api.jobs import Responses, idempotency_key, job_filter, made, shown, submit_spec
from labfleet.web.auth import current_user, needs
from labfleet.web.services import services

SPEC: Responses = {
    200: {
        "description": "What was sent to `POST jobs`",
        "content": {"application/json": {"schema": {"type": "object"}}},
    }
}


def _options(verb: str) -> dict[str, Any]:
    attempts = services().settings.leases.max_attempts
    return {"max_attempts": attempts} if verb in verbs.COUNTED else {}


def _job_view(verb: str) -> Callable[[uuid.UUID], schemas.Job]:
    def view(job: uuid.UUID) -> schemas.Job:
        with services().sessions.begin() as db:
            verbs.JOB_VERBS[verb](db, current_user(), job, **_options(verb))
            return shown(db, service.get_job_row(db, current_user(), job))

    return view


def _task_view(verb: str) -> Callable[[uuid.UUID], schemas.Task]:
    def view(task: uuid.UUID) -> schemas.Task:
        with services().sessions.begin() as db:
            verbs.TASK_VERBS[verb](db, current_user(), task, **_options(verb))
            return views.task(service.get_task(db, current_user(), task))

    return view


def _first_line(function: Callable[..., None]) -> str:
    return (function.__doc__ or "").strip().splitlines()[0]


def _add(kind: str, verb: str, view: Callable[..., Any], output: type[schemas.Out], told: str) -> None:
    """One call like the others: `POST jobs/<id>/<verb>`, `POST tasks/<id>/<verb>`."""
    name = f"{verb.replace('-', '_')}_{kind}"
    view.__name__, view.__doc__ = name, f"{verb.capitalize().replace('-', ' ')} a {kind}\n\n{told}"
    documented = user.doc(tags=[f"{kind}s"], operation_id=name)(user.output(output)(view))
    user.post(f"/{kind}s/<uuid:{kind}>/{verb}")(needs(Scope.JOBS)(documented))


for _verb, _function in verbs.JOB_VERBS.items():
    if _verb != "delete":
        _add("job", _verb, _job_view(_verb), schemas.Job, _first_line(_function))
for _verb, _function in verbs.TASK_VERBS.items():
    _add("task", _verb, _task_view(_verb), schemas.Task, _first_line(_function))


@user.delete("/jobs/<uuid:job>")
@needs(Scope.JOBS)
@user.doc(tags=["jobs"], operation_id="delete_job")
@user.output({}, status_code=204)
def delete_job(job: uuid.UUID) -> tuple[str, int]:
    """Delete a job that has ended, with its tasks, logs and artifacts"""
    with services().sessions.begin() as db:
        verbs.remove(db, current_user(), job)
    return "", 204


@user.patch("/jobs/<uuid:job>")
@needs(Scope.JOBS)
@user.doc(tags=["jobs"], operation_id="change_job")
@user.input(schemas.JobChanges)
@user.output(schemas.Job)
def change_job(job: uuid.UUID, json_data: schemas.JobChanges) -> schemas.Job:
    """Change a job's label, labels, note or priority"""
    with services().sessions.begin() as db:
        verbs.change(db, current_user(), job, json_data.model_dump(exclude_none=True))
        return shown(db, service.get_job_row(db, current_user(), job))


@user.get("/jobs/<uuid:job>/spec")
@needs(Scope.READ)
@user.doc(tags=["jobs"], operation_id="show_spec", responses=SPEC)
def show_spec(job: uuid.UUID) -> Response:
    """Show the specification that a job was made of, as it was submitted

    Note, webhook and mail are told to who may change the job.
    """
    with services().sessions() as db:
        return jsonify(request_for(current_user(), service.read_job(db, current_user(), job)))


def _changed(job: uuid.UUID, change: Callable[[Session], Job]) -> schemas.Job:
    with services().sessions.begin() as db:
        change(db)
        return shown(db, service.get_job_row(db, current_user(), job))


@user.post("/jobs/<uuid:job>/share")
@needs(Scope.JOBS)
@user.doc(tags=["jobs"], operation_id="share_job")
@user.input(schemas.People)
@user.output(schemas.Job)
def share_job(job: uuid.UUID, json_data: schemas.People) -> schemas.Job:
    """Let users and groups look at a job of yours and its results"""
    whom = json_data.model_dump()
    return _changed(job, lambda db: access.share(db, current_user(), job, **whom))


@user.post("/jobs/<uuid:job>/unshare")
@needs(Scope.JOBS)
@user.doc(tags=["jobs"], operation_id="unshare_job")
@user.input(schemas.People)
@user.output(schemas.Job)
def unshare_job(job: uuid.UUID, json_data: schemas.People) -> schemas.Job:
    """Take a job of yours back from users and groups"""
    whom = json_data.model_dump()
    return _changed(job, lambda db: access.unshare(db, current_user(), job, **whom))


@user.post("/jobs/<uuid:job>/publish")
@needs(Scope.JOBS)
@user.doc(tags=["jobs"], operation_id="publish_job")
@user.output(schemas.Job)
def publish_job(job: uuid.UUID) -> schemas.Job:
    """Let everybody look at a job of yours and its results"""
    return _changed(job, lambda db: access.make_public(db, current_user(), job, public=True))


@user.post("/jobs/<uuid:job>/withdraw")
@needs(Scope.JOBS)
@user.doc(tags=["jobs"], operation_id="withdraw_job")
@user.output(schemas.Job)
def withdraw_job(job: uuid.UUID) -> schemas.Job:
    """Take a job of yours back from everybody but those it is shared with"""
    return _changed(job, lambda db: access.make_public(db, current_user(), job, public=False))


@user.post("/jobs/<uuid:job>/resubmit")
@needs(Scope.JOBS)
@user.doc(tags=["jobs"], operation_id="resubmit_job")
@user.input(schemas.Resubmission)
@user.output(schemas.Job, status_code=201)
def resubmit_job(job: uuid.UUID, json_data: schemas.Resubmission) -> tuple[schemas.Job, int, dict[str, str]]:
    """Submit a job of yours again as a new one, with changes

    `changes` replaces fields of the earlier job's specification; null leaves one out.
    """
    with services().sessions() as db:
        earlier = dict(service.get_job_row(db, current_user(), job).spec)
    changed = {**earlier, **json_data.changes}
    wanted = spec.read({name: value for name, value in changed.items() if value is not None})
    return made(submit_spec(wanted, idempotency_key()))


@user.post("/jobs/bulk")
@needs(Scope.JOBS)
@user.doc(tags=["jobs"], operation_id="bulk_jobs")
@user.input(schemas.Bulk)
@user.output(schemas.BulkDone)
def bulk(json_data: schemas.Bulk) -> schemas.BulkDone:
    """Do the same to all jobs that a filter finds

    Each job by itself: one that can't be changed is told, and the others go on.
    """
    limit = services().settings.jobs.max_bulk
    with services().sessions() as db:
        found = search.matching(db, current_user(), job_filter(json_data.filter), limit + 1)
    refused: list[schemas.Refused] = []
    done = 0
    for job_id in found[:limit] if not json_data.dry_run else ():
        try:
            with services().sessions.begin() as db:
                verbs.JOB_VERBS[json_data.verb](db, current_user(), job_id, **_options(json_data.verb))
            done += 1
        except LabfleetError as error:
            refused.append(schemas.Refused(job=job_id, code=error.code, detail=error.detail))
    return schemas.BulkDone(matched=len(found[:limit]), done=done, refused=refused, more=len(found) > limit)
