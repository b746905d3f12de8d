"""The list of jobs, and one job while it runs and after."""

from __future__ import annotations

import hashlib
import uuid
from typing import Any

from flask import Response, g, redirect, render_template, request
from markupsafe import Markup
from pydantic import ValidationError
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as BaseResponse

from labfleet.db.models import Job, Task
from labfleet.errors import Invalid, LabfleetError, NotFound, TooLarge
from labfleet.jobs import access, inputs, search, service, spec, verbs
from labfleet.jobs.explain import reasons
from labfleet.jobs.states import State
from labfleet.jobs.visible import Whose, request_for
from labfleet.web.api import views
from labfleet.web.api.jobs import crate_of, job_filter, submit_spec
from labfleet.web.api.schemas import In, JobChanges, JobsQuery, JobSummary, PageQuery, TimelineQuery
from labfleet.web.files import attachment
from labfleet.web.guard import MAX_DEPTH, check_value
from labfleet.web.pages import actions, tree
from labfleet.web.pages.advice import advice_for
from labfleet.web.pages.archive import zipped
from labfleet.web.pages.frame import names, pages
from labfleet.web.pages.previews import shown
from labfleet.web.services import services

PAGE = 25
EVENTS = 100
LOG_TAIL = 32 * 1024
ZIP_FILES = 20_000
WHOSE = {
    Whose.MINE: "mine",
    Whose.SHARED: "shared with me",
    Whose.PUBLIC: "public",
    Whose.ALL: "all that I may see",
}
SEEN = "@seen@"
"""Stands in a rendered part for the tag of its own content."""


class TasksOfJob(PageQuery):
    """Which tasks of a tree a page shows, and what of it the browser has seen."""

    state: State | None = None
    seen: str = ""


def page_query(kind: type[In] = PageQuery, limit: int = PAGE) -> Any:
    """The address's query, checked; `Invalid` for one that no link of ours has."""
    try:
        asked = {
            name: value for name, value in request.args.items() if value
        }  # an empty field asks for nothing
        return kind.model_validate({"limit": limit, **asked})
    except ValidationError as error:
        told = "; ".join(f"{item['loc'][0]}: {item['msg']}" for item in error.errors())
        raise Invalid(f"The address is not right: {told}.", hint="Go back to the list.") from None


@pages.get("/jobs")
def jobs() -> str:
    """The list of jobs."""
    query = page_query(JobsQuery)
    with services().sessions() as db:
        page = search.list_jobs(db, g.user, job_filter(query), query.limit, query.after, whose=query.whose)
        items = [views.summary(job, g.user) for job in page.items]
    return render_template(
        "jobs.html",
        section="Jobs",
        jobs=items,
        next=page.next,
        query={name: value for name, value in request.args.items() if value},
        state=query.state[0] if query.state else None,
        states=list(State),
        whose=query.whose or (Whose.ALL if g.user.is_admin else Whose.MINE),
        choices=WHOSE,
        here=request.full_path,
        live=query.after is None,
    )


@pages.get("/jobs/<uuid:job>")
def job(job: uuid.UUID) -> str:
    """One job."""
    return _page(job, None)


def _page(job_id: uuid.UUID, error: LabfleetError | None) -> str:
    part, context = _live_part(job_id)
    live = Markup(part.replace(SEEN, _tag(part)))  # noqa: S704 - our own template has made it
    with services().sessions() as db:
        whom = views.shared_with(service.read_job(db, g.user, job_id))
    problem = error.problem() if error else None
    return render_template("job.html", live_part=live, shared_with=whom, problem=problem, **context)


@pages.get("/jobs/<uuid:job>/live")
def job_live(job: uuid.UUID) -> Response:
    """The part of a job's page that refreshes itself; 204 while it is what the browser has seen."""
    return _unless_seen(_live_part(job)[0])


@pages.get("/tasks/<uuid:task>")
def task(task: uuid.UUID) -> Response:
    """One task of a job."""
    with services().sessions() as db:
        row = service.read_task(db, g.user, task)
        context = _task_context(db, row)
        job = views.summary(service.read_job(db, g.user, row.job_id), g.user)
        page = render_template(
            "task.html",
            section="Jobs",
            job=job,
            alone=job.counts.total == 1,
            actions=actions.of_task(context["task"], cancelling=row.cancel_requested),
            attempts=service.attempts_of(db, g.user, task),
            **context,
        )
    return _unless_seen(page)


@pages.post("/jobs/<uuid:job>/<any(cancel,hold,resume,retry,'force-retry',delete):verb>")
def change_job(job: uuid.UUID, verb: str) -> BaseResponse:
    """Do what a button of the job's page says."""
    with services().sessions.begin() as db:
        verbs.JOB_VERBS[verb](db, g.user, job, **_options(verb))
    return redirect("/jobs" if verb == "delete" else f"/jobs/{job}", 303)


@pages.post("/tasks/<uuid:task>/<any(cancel,retry,'force-retry'):verb>")
def change_task(task: uuid.UUID, verb: str) -> BaseResponse:
    """Do what a button of the task's page says."""
    with services().sessions.begin() as db:
        verbs.TASK_VERBS[verb](db, g.user, task, **_options(verb))
    return redirect(f"/tasks/{task}", 303)


@pages.post("/jobs/<uuid:job>/again")
def run_again(job: uuid.UUID) -> BaseResponse:
    """Submit the same request as a new job."""
    with services().sessions() as db:
        wanted = spec.read(service.get_job_row(db, g.user, job).spec)
    return redirect(f"/jobs/{submit_spec(wanted, None).id}", 303)


@pages.post("/jobs/<uuid:job>/sharing")
def share_job(job: uuid.UUID) -> BaseResponse | tuple[str, int]:
    """Keep for whom the form says that a job is."""
    users, groups = (names(request.form.get(key, "")) for key in ("users", "groups"))
    try:
        with services().sessions.begin() as db:
            row = access.make_public(db, g.user, job, public=request.form.get("public") == "true")
            old_users = {each.user.name for each in row.shares if each.user} - set(users)
            old_groups = {each.group_name for each in row.shares if each.group_name} - set(groups)
            if old_users or old_groups:
                access.unshare(db, g.user, job, users=old_users, groups=old_groups)
            if users or groups:
                access.share(db, g.user, job, users=users, groups=groups)
    except NotFound as error:
        return _page(job, error), error.status
    return redirect(f"/jobs/{job}", 303)


@pages.post("/jobs/<uuid:job>/words")
def change_words(job: uuid.UUID) -> BaseResponse:
    """Keep label and note of the form."""
    given = {name: request.form.get(name, "").strip() for name in ("label", "note")}
    check_value(given, MAX_DEPTH)
    try:
        changes = JobChanges.model_validate(given).model_dump(exclude_none=True)
    except ValidationError as error:
        told = "; ".join(f"{item['loc'][0]}: {item['msg']}" for item in error.errors())
        raise Invalid(f"This can't be kept: {told}.", hint="Go back and shorten it.") from None
    with services().sessions.begin() as db:
        verbs.change(db, g.user, job, changes)
    return redirect(f"/jobs/{job}/request", 303)


def _options(verb: str) -> dict[str, Any]:
    attempts = services().settings.leases.max_attempts
    return {"max_attempts": attempts} if verb in verbs.COUNTED else {}


@pages.get("/jobs/<uuid:job>/request")
def job_request(job: uuid.UUID) -> str:
    """What was asked for, as it was submitted."""
    with services().sessions() as db:
        row = service.read_job(db, g.user, job)
        return render_template(
            "job_request.html", here="Request", document=request_for(g.user, row), **_frame(db, row)
        )


@pages.get("/jobs/<uuid:job>/timeline")
def job_timeline(job: uuid.UUID) -> str:
    """What happened, in order."""
    query = page_query(TimelineQuery, EVENTS)
    with services().sessions() as db:
        row = service.read_job(db, g.user, job)
        page = service.job_events(db, g.user, job, query.limit, query.after)
        names = service.task_names(db, job, {event.task_id for event in page.items})
        return render_template(
            "job_timeline.html",
            here="Timeline",
            events=page.items,
            names=names,
            next=page.next,
            query=request.args.to_dict(),
            **_frame(db, row),
        )


@pages.get("/jobs/<uuid:job>/results")
def job_results(job: uuid.UUID) -> str:
    """The result files of all tasks."""
    query = page_query(limit=EVENTS)
    with services().sessions() as db:
        row = service.read_job(db, g.user, job)
        items, following = service.job_results(db, g.user, job, query.limit, query.after)
        return render_template(
            "job_results.html",
            here="Results",
            results=items,
            next=following,
            query=request.args.to_dict(),
            **_frame(db, row),
        )


@pages.get("/jobs/<uuid:job>/results.zip")
def job_zip(job: uuid.UUID) -> Response:
    """All results as one file, with the request."""
    limit = services().settings.web.zip_max_bytes
    with services().sessions() as db:
        row = service.read_job(db, g.user, job)
        items, more = service.job_results(db, g.user, job, ZIP_FILES, None)
        summary, document = views.summary(row, g.user).model_dump(mode="json"), request_for(g.user, row)
    if not items:
        raise NotFound("The job has no results yet.", hint="Wait until a task of it has ended.")
    if more or sum(item.artifact.size for item in items) > limit:
        told = f"The results are more than one file may hold ({limit} bytes, {ZIP_FILES} files)."
        raise TooLarge(told, hint=f"'labfleet fetch {job} -o DIRECTORY' brings them one by one.")
    for item in items:
        services().store.existing(item.artifact.sha256)
    documents = {"job.json": summary, "request.json": document}
    response = Response(zipped(services().store, items, documents), content_type="application/zip")
    return attachment(response, f"{row.label or 'job'}-{str(job)[:8]}.zip")


@pages.get("/jobs/<uuid:job>/crate.zip")
def job_crate(job: uuid.UUID) -> Response:
    """The job as an RO-Crate."""
    return crate_of(job, g.user)


def _tag(part: str) -> str:
    return hashlib.sha256(part.encode()).hexdigest()[:16]


def _unless_seen(part: str) -> Response:
    tag = _tag(part)
    if request.args.get("seen") == tag:
        return Response(status=204)
    return Response(part.replace(SEEN, tag))


def _live_part(job_id: uuid.UUID) -> tuple[str, dict[str, Any]]:
    """The part of a job's page that refreshes itself, with `SEEN` in the place of its tag; its context."""
    query = page_query(TasksOfJob, services().settings.jobs.tasks_shown)
    with services().sessions() as db:
        row = service.read_job(db, g.user, job_id)
        page = search.list_tasks(db, g.user, job_id, query.state, limit=query.limit, after=query.after)
        context = _frame(db, row)
        if row.tasks_total == 1:
            context |= _task_context(db, page.items[0] if page.items else _only_task(db, job_id))
            context["actions"] = actions.of_job(context["job"], cancelling=context["cancelling"])
        else:
            nodes = service.nodes_above(
                db, job_id, {task.node for task in page.items if task.node is not None}
            )
            why = reasons(db, g.user, page.items, services().settings.order)
            context["rows"] = tree.rows(nodes, page.items, why)
            asked = {name: value for name, value in request.args.to_dict().items() if name != "seen"}
            context |= {"next": page.next, "query": asked, "state": query.state}
        context |= {"here": "Overview", "live": not context["final"]}
        return render_template("job_live.html", **context), context


def _only_task(db: Session, job_id: uuid.UUID) -> Task:
    return search.list_tasks(db, g.user, job_id, limit=1).items[0]


def _frame(db: Session, row: Job) -> dict[str, Any]:
    """What each page of a job begins with."""
    found: JobSummary = views.summary(row, g.user)
    counts = found.counts.model_dump()
    return {
        "section": "Jobs",
        "job": found,
        "final": found.state.final,
        "alone": row.tasks_total == 1,
        "actions": actions.of_job(found),
        "seconds": tree.seconds(row.created_at, row.finished_at),
        "counts": [(name, count) for name, count in counts.items() if count and name != "total"],
        "bars": tree.bars(counts),
    }


def _task_context(db: Session, row: Task) -> dict[str, Any]:
    log, cut = services().logs.tail(row.id, row.attempt, LOG_TAIL)
    artifacts = list(service.task_artifacts(db, g.user, row.id))
    task = views.task(row, reasons(db, g.user, [row], services().settings.order).get(row.id))
    return {
        "task": task,
        "final": task.state.final,
        "cancelling": row.cancel_requested,
        "advice": advice_for(task),
        "artifacts": shown(artifacts, row.protocol_version.manifest["outputs"], services().store),
        "inputs": inputs.described(db, g.user, row),
        "log": log,
        "log_cut": cut,
        "took": tree.seconds(task.started_at, task.finished_at),
    }


@pages.get("/tasks/<uuid:task>/log")
def task_log(task: uuid.UUID) -> Response:
    """The whole log as plain text."""
    with services().sessions() as db:
        found = service.read_task(db, g.user, task)
    data, _ = services().logs.read(found.id, found.attempt, 0, services().logs.limit)
    return Response(data, content_type="text/plain; charset=utf-8")
