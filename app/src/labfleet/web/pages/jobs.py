"""The list of jobs, and one job while it runs and after."""

from __future__ import annotations

import uuid
from typing import Any

from flask import Response, g, redirect, render_template, request
from pydantic import ValidationError
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as BaseResponse

from labfleet.db.models import Task
from labfleet.errors import Invalid
from labfleet.jobs import inputs, search, service, verbs
from labfleet.jobs.explain import reasons
from labfleet.jobs.states import State
from labfleet.web.api import views
from labfleet.web.api.jobs import job_filter
from labfleet.web.api.schemas import JobsQuery, PageQuery
from labfleet.web.files import send_blob
from labfleet.web.pages.advice import advice_for
from labfleet.web.pages.frame import pages
from labfleet.web.pages.previews import shown
from labfleet.web.services import services

PAGE = 25
LOG_TAIL = 32 * 1024


def page_query(kind: type[PageQuery] = PageQuery) -> Any:
    """The address's query, checked; `Invalid` for one that no link of ours has."""
    try:
        return kind.model_validate({"limit": PAGE, **request.args.to_dict()})
    except ValidationError as error:
        told = "; ".join(f"{item['loc'][0]}: {item['msg']}" for item in error.errors())
        raise Invalid(f"The address is not right: {told}.", hint="Go back to the list.") from None


@pages.get("/jobs")
def jobs() -> str:
    """The list of jobs."""
    query = page_query(JobsQuery)
    with services().sessions() as db:
        page = search.list_jobs(db, g.user, job_filter(query), query.limit, query.after)
        items = [views.summary(job) for job in page.items]
    return render_template(
        "jobs.html",
        section="Jobs",
        jobs=items,
        next=page.next,
        query=request.args.to_dict(),
        state=query.state[0] if query.state else None,
        states=list(State),
        here=request.full_path,
        live=query.after is None,
    )


@pages.get("/jobs/<uuid:job>")
def job(job: uuid.UUID) -> str:
    """One job."""
    return _render("job.html", job)


@pages.get("/jobs/<uuid:job>/live")
def job_live(job: uuid.UUID) -> str:
    """The part of a job's page that refreshes itself."""
    return _render(None, job)


@pages.get("/tasks/<uuid:task>")
def task(task: uuid.UUID) -> str:
    """One task of a job."""
    with services().sessions() as db:
        row = service.get_task(db, g.user, task)
        context = _task_context(db, row)
        job = service.get_job_row(db, g.user, row.job_id)
        return render_template("task.html", section="Jobs", job=views.summary(job), **context)


@pages.post("/jobs/<uuid:job>/cancel")
def cancel(job: uuid.UUID) -> BaseResponse:
    """Cancel a job."""
    with services().sessions.begin() as db:
        verbs.cancel(db, g.user, job)
    return redirect(f"/jobs/{job}", 303)


def _render(template: str | None, job_id: uuid.UUID) -> str:
    with services().sessions() as db:
        row = service.get_job_row(db, g.user, job_id)
        tasks = search.list_tasks(db, g.user, job_id, limit=services().settings.jobs.tasks_shown).items
        found = views.job(
            row, service.nodes_of(db, job_id), tasks, reasons(db, tasks, services().settings.order)
        )
        # A job of one task is shown as that task; a tree with what stands where.
        live = "tree_live.html" if found.nodes else "job_live.html"
        context = {} if found.nodes else _task_context(db, tasks[0])
        context |= {"job": found, "final": found.state.final, "live": live}
        context["counts"] = [
            (name, count) for name, count in found.counts.model_dump().items() if count and name != "total"
        ]
        return render_template(template or live, section="Jobs", **context)


def _task_context(db: Session, row: Task) -> dict[str, Any]:
    log, cut = services().logs.tail(row.id, row.attempt, LOG_TAIL)
    artifacts = list(service.task_artifacts(db, g.user, row.id))
    task = views.task(row, reasons(db, [row], services().settings.order).get(row.id))
    return {
        "task": task,
        "final": task.state.final,
        "cancelling": row.cancel_requested,
        "advice": advice_for(task),
        "artifacts": shown(artifacts, row.protocol_version.manifest["outputs"], services().store),
        "inputs": inputs.described(db, row),
        "log": log,
        "log_cut": cut,
    }


@pages.get("/tasks/<uuid:task>/log")
def task_log(task: uuid.UUID) -> Response:
    """The whole log as plain text."""
    with services().sessions() as db:
        found = service.get_task(db, g.user, task)
    data, _ = services().logs.read(found.id, found.attempt, 0, services().logs.limit)
    return Response(data, content_type="text/plain; charset=utf-8")


@pages.get("/artifacts/<uuid:artifact>/content")
def artifact_content(artifact: uuid.UUID) -> Response:
    """A result file."""
    with services().sessions() as db:
        found = service.get_artifact(db, g.user, artifact)
    return send_blob(found.sha256, found.name, found.media_type)
