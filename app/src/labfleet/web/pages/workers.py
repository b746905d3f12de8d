"""The machines that run the analyses, and what they run next."""

from __future__ import annotations

from flask import g, redirect, render_template
from werkzeug.wrappers import Response as BaseResponse

from labfleet.errors import Forbidden
from labfleet.jobs import explain, fleet
from labfleet.jobs.placement import Worker
from labfleet.web.api import views
from labfleet.web.pages.frame import pages
from labfleet.web.services import services

NEXT = 25


@pages.get("/workers")
def workers() -> str:
    """All workers (who has not reported for a while is silent), and the order of what waits."""
    with services().sessions() as db:
        known = fleet.described(db, services().settings.order)
        places = explain.queue(db, g.user, NEXT)
    shown = [{**views.worker(row, now).model_dump(), "state": _state(now)} for row, now in known]
    return render_template("workers.html", section="Workers", workers=shown, places=places)


@pages.post("/workers/<name>/<any(drain,resume):verb>")
def drain_worker(name: str, verb: str) -> BaseResponse:
    """Give a worker no new tasks, or again; for admins."""
    if not g.user.is_admin:
        raise Forbidden("Only an admin may do this.")
    with services().sessions.begin() as db:
        fleet.drain(db, name, draining=verb == "drain")
    return redirect("/workers", 303)


def _state(worker: Worker) -> str:
    if worker.away:
        return "silent"
    return "stopping" if worker.stopping else "draining" if worker.draining else "here"
