"""Jobs and tasks: submit, find, look."""

from __future__ import annotations

import re
import uuid
from dataclasses import asdict
from typing import Any

from flask import Response, request
from sqlalchemy.orm import Session

from labfleet import crash
from labfleet.crates.gather import gather
from labfleet.crates.writing import crate
from labfleet.db import models
from labfleet.errors import Invalid
from labfleet.jobs import quotas, search, service, webhooks
from labfleet.jobs.explain import able, reasons
from labfleet.jobs.needs import Needs
from labfleet.jobs.plan import make_plan
from labfleet.jobs.spec import JobSpec
from labfleet.mail import notices
from labfleet.users.scopes import Scope
from labfleet.web import tracing
from labfleet.web.api import schemas, views
from labfleet.web.api.blueprints import user
from labfleet.web.auth import current_user, needs
from labfleet.web.files import attachment, send_blob
from labfleet.web.services import services

LOG_CHUNK = 1024 * 1024
CRATE_FILES = 20_000
"""Tasks, and results, that one crate may tell of."""
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
ZIP: Responses = {200: {"description": "The crate", "content": {"application/zip": BINARY}}}
BYTES: Responses = {200: {"description": "The bytes", "content": {"*/*": BINARY}}}


@user.post("/jobs")
@needs(Scope.JOBS)
@user.doc(tags=["jobs"], operation_id="submit_job", extensions={"x-labfleet-parameters": [KEY_HEADER]})
@user.input(schemas.SubmitQuery, location="query")
@user.input(schemas.JobIn)
@user.output(schemas.Job, status_code=201)
def submit(query_data: schemas.SubmitQuery, json_data: schemas.JobIn) -> Any:
    """Submit a job

    One task by its `protocol`, or a `tree` of sequential and parallel ones. With `dry_run` nothing is made:
    the answer (200) says which tasks there would be, and which workers could take them.
    """
    if query_data.dry_run:
        return plan_of(json_data)
    return made(submit_spec(json_data, idempotency_key()))


def submit_spec(wanted: JobSpec, key: str | None) -> schemas.Job:
    """Make the job of a specification for whoever asks."""
    settings = services().settings
    with services().sessions.begin() as db:
        quotas.check_storage(db, current_user(), 0)
        job = service.submit(
            db,
            current_user(),
            wanted,
            key,
            max_attempts=settings.leases.max_attempts,
            limits=settings.jobs,
            calls=settings.webhooks,
            mails=settings.mail,
        )
        crash.point("submit_before_commit")
    crash.point("submit_after_commit")
    # Only now, so that the dispatcher does not wait for the words in which the job is told about.
    with services().sessions() as db:
        answer = shown(db, service.get_job_row(db, current_user(), job.id))
    tracing.submitted(answer.id, [task.id for task in answer.tasks], answer.counts.total)
    return answer


def made(answer: schemas.Job) -> tuple[schemas.Job, int, dict[str, str]]:
    """The answer for a new job."""
    return answer, 201, {"Location": f"/api/v1/jobs/{answer.id}"}


def shown(db: Session, row: models.Job) -> schemas.Job:
    """A job with its tree, its first tasks, and why they wait."""
    shown_tasks = services().settings.jobs.tasks_shown
    viewer = current_user()
    tasks = search.list_tasks(db, viewer, row.id, limit=shown_tasks).items
    why = reasons(db, viewer, tasks, services().settings.order)
    return views.job(row, viewer, service.nodes_of(db, row.id), tasks, why)


def plan_of(wanted: JobSpec) -> Response:
    """The answer (200) that tells what the job would be."""
    return Response(_dry_run(wanted).model_dump_json(), content_type="application/json")


def _dry_run(wanted: JobSpec) -> schemas.DryRun:
    webhooks.check(wanted.webhook, services().settings.webhooks)
    if wanted.mail:
        notices.need(services().settings.mail, current_user())
    with services().sessions() as db:
        plan = make_plan(db, current_user(), wanted, services().settings.jobs)
        lanes: dict[Needs, int] = {}
        for leaf in plan.leaves:
            if leaf.needs is not None:
                lanes[leaf.needs] = lanes.get(leaf.needs, 0) + leaf.size
        return schemas.DryRun(
            tasks=plan.total,
            nodes=len(plan.nodes),
            protocols=plan.protocols,
            names=[leaf.spec.task for leaf in plan.leaves][: services().settings.jobs.tasks_shown],
            inapplicable=[
                schemas.Misfit.model_validate(each)
                for each in plan.misfits[: services().settings.jobs.tasks_shown]
            ],
            lanes=[
                schemas.Lane(**asdict(needs), tasks=size, workers=[worker.name for worker in able(db, needs)])
                for needs, size in lanes.items()
            ],
        )


def idempotency_key() -> str | None:
    """The request's Idempotency-Key; `Invalid` for one that can't be kept."""
    key = request.headers.get("Idempotency-Key")
    if key is not None and not _KEY.fullmatch(key):
        raise Invalid("An Idempotency-Key has 1 to 200 visible ASCII characters.")
    return key


@user.get("/jobs")
@needs(Scope.READ)
@user.doc(tags=["jobs"], operation_id="list_jobs")
@user.input(schemas.JobsQuery, location="query")
@user.output(schemas.Jobs)
def list_jobs(query_data: schemas.JobsQuery) -> schemas.Jobs:
    """Find jobs

    Yours, newest first; an admin finds everybody's. `whose` finds those that others share. `in_progress` and
    `errored` stand for several states.
    """
    limit = min(query_data.limit, services().settings.web.page_size_max)
    with services().sessions() as db:
        viewer, wanted = current_user(), job_filter(query_data)
        page = search.list_jobs(db, viewer, wanted, limit, query_data.after, whose=query_data.whose)
        return schemas.Jobs(items=[views.summary(job, viewer) for job in page.items], next=page.next)


def job_filter(given: schemas.JobFilter) -> search.Filter:
    """The filter that a query or a bulk call describes."""
    states = [*given.state]
    states += search.IN_PROGRESS if given.in_progress else ()
    states += search.ERRORED if given.errored else ()
    datasets = {given.dataset, given.model} - {None}
    return search.Filter(
        states=states,
        user=given.user,
        protocol=given.protocol,
        datasets=[str(dataset) for dataset in datasets],
        labels=given.label,
        text=given.text,
        since=given.since,
        until=given.until,
    )


@user.get("/jobs/<uuid:job>")
@needs(Scope.READ)
@user.doc(tags=["jobs"], operation_id="show_job")
@user.output(schemas.Job)
def show_job(job: uuid.UUID) -> schemas.Job:
    """Show a job with its tree and its first tasks"""
    with services().sessions() as db:
        return shown(db, service.read_job(db, current_user(), job))


@user.get("/jobs/<uuid:job>/tasks")
@needs(Scope.READ)
@user.doc(tags=["jobs"], operation_id="list_tasks")
@user.input(schemas.TasksQuery, location="query")
@user.output(schemas.Tasks)
def list_tasks(job: uuid.UUID, query_data: schemas.TasksQuery) -> schemas.Tasks:
    """List a job's tasks"""
    limit = min(query_data.limit, services().settings.web.page_size_max)
    with services().sessions() as db:
        page = search.list_tasks(
            db, current_user(), job, query_data.state, limit=limit, after=query_data.after
        )
        why = reasons(db, current_user(), page.items, services().settings.order)
        return schemas.Tasks(items=[views.task(row, why.get(row.id)) for row in page.items], next=page.next)


@user.get("/jobs/<uuid:job>/events")
@needs(Scope.READ)
@user.doc(tags=["jobs"], operation_id="list_job_events")
@user.input(schemas.TimelineQuery, location="query")
@user.output(schemas.Timeline)
def list_job_events(job: uuid.UUID, query_data: schemas.TimelineQuery) -> schemas.Timeline:
    """List what happened to a job, from its beginning"""
    limit = min(query_data.limit, services().settings.web.page_size_max)
    with services().sessions() as db:
        page = service.job_events(db, current_user(), job, limit, query_data.after)
        return schemas.Timeline(
            items=[schemas.JobEvent.model_validate(row) for row in page.items], next=page.next
        )


@user.get("/jobs/<uuid:job>/results")
@needs(Scope.READ)
@user.doc(tags=["jobs"], operation_id="list_results")
@user.input(schemas.PageQuery, location="query")
@user.output(schemas.Results)
def list_results(job: uuid.UUID, query_data: schemas.PageQuery) -> schemas.Results:
    """List the artifacts of all tasks of a job

    They are there as soon as a task has left them, while others still run.
    """
    limit = min(query_data.limit, services().settings.web.page_size_max)
    with services().sessions() as db:
        found, following = service.job_results(db, current_user(), job, limit, query_data.after)
        return schemas.Results(items=[views.result(item) for item in found], next=following)


@user.get("/jobs/<uuid:job>/deliveries")
@needs(Scope.READ)
@user.doc(tags=["jobs"], operation_id="list_deliveries")
@user.output(schemas.Deliveries)
def list_deliveries(job: uuid.UUID) -> schemas.Deliveries:
    """List the calls of the webhook of a job of yours"""
    with services().sessions() as db:
        rows = service.deliveries(db, current_user(), job)
        return schemas.Deliveries(items=[schemas.Delivery.model_validate(row) for row in rows])


@user.get("/jobs/<uuid:job>/crate")
@needs(Scope.READ)
@user.doc(tags=["jobs"], operation_id="export_job", responses=ZIP)
def export_job(job: uuid.UUID) -> Response:
    """Export a job as an RO-Crate

    A ZIP after the profile Workflow Run Crate: protocols, inputs, parameters, results, and where they come
    from. For a job that has ended.
    """
    return crate_of(job, current_user())


def crate_of(job: uuid.UUID, viewer: models.User) -> Response:
    """The crate of a job, made while it is sent."""
    most = services().settings.web.zip_max_bytes
    with services().sessions() as db:
        facts = gather(db, viewer, job, services().protocols, most_bytes=most, most_files=CRATE_FILES)
        label, pieces = facts.job.label, crate(facts, services().store)
    return attachment(
        Response(pieces, content_type="application/zip"), f"{label or 'job'}-{str(job)[:8]}.crate.zip"
    )


@user.get("/tasks/<uuid:task>")
@needs(Scope.READ)
@user.doc(tags=["tasks"], operation_id="show_task")
@user.output(schemas.Task)
def show_task(task: uuid.UUID) -> schemas.Task:
    """Show a task"""
    with services().sessions() as db:
        row = service.read_task(db, current_user(), task)
        why = reasons(db, current_user(), [row], services().settings.order)
        return views.task(row, why.get(row.id))


@user.get("/tasks/<uuid:task>/provenance")
@needs(Scope.READ)
@user.doc(tags=["tasks"], operation_id="show_provenance")
@user.output(schemas.Provenance)
def show_provenance(task: uuid.UUID) -> schemas.Provenance:
    """Show where a task's result came from"""
    with services().sessions() as db:
        return views.provenance(service.provenance(db, current_user(), task))


@user.get("/tasks/<uuid:task>/log")
@needs(Scope.READ)
@user.doc(tags=["tasks"], operation_id="read_log", responses=TEXT)
@user.input(schemas.LogQuery, location="query")
def read_log(task: uuid.UUID, query_data: schemas.LogQuery) -> Response:
    """Read a task's log

    At most 1 MiB from `offset` on. `X-Log-Size` tells how long the log is, `X-Log-Attempt` whose it is.
    """
    with services().sessions() as db:
        found = service.read_task(db, current_user(), task)
    attempt = query_data.attempt or found.attempt
    data, size = services().logs.read(found.id, attempt, query_data.offset, LOG_CHUNK)
    headers = {"X-Log-Size": str(size), "X-Log-Attempt": str(attempt)}
    return Response(data, headers=headers, content_type="text/plain; charset=utf-8")


@user.get("/tasks/<uuid:task>/events")
@needs(Scope.READ)
@user.doc(tags=["tasks"], operation_id="list_events")
@user.output(schemas.Events)
def list_events(task: uuid.UUID) -> schemas.Events:
    """List what happened to a task"""
    with services().sessions() as db:
        rows = service.task_events(db, current_user(), task)
        return schemas.Events(items=[schemas.Event.model_validate(row) for row in rows])


@user.get("/tasks/<uuid:task>/artifacts")
@needs(Scope.READ)
@user.doc(tags=["artifacts"], operation_id="list_artifacts")
@user.output(schemas.Artifacts)
def list_artifacts(task: uuid.UUID) -> schemas.Artifacts:
    """List a task's artifacts"""
    with services().sessions() as db:
        return views.artifacts(service.task_artifacts(db, current_user(), task))


@user.get("/artifacts/<uuid:artifact>")
@needs(Scope.READ)
@user.doc(tags=["artifacts"], operation_id="show_artifact")
@user.output(schemas.Artifact)
def show_artifact(artifact: uuid.UUID) -> schemas.Artifact:
    """Show an artifact"""
    with services().sessions() as db:
        return views.artifact(service.read_artifact(db, current_user(), artifact))


@user.get("/artifacts/<uuid:artifact>/content")
@needs(Scope.READ)
@user.doc(tags=["artifacts"], operation_id="download_artifact", responses=BYTES)
def download_artifact(artifact: uuid.UUID) -> Response:
    """Download an artifact"""
    with services().sessions() as db:
        found = service.read_artifact(db, current_user(), artifact)
    return send_blob(found.sha256, found.name, found.media_type)
