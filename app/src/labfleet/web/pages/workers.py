"""The machines that run the analyses."""

from __future__ import annotations

from flask import render_template

from labfleet.jobs import fleet
from labfleet.jobs.placement import Worker
from labfleet.web.api import views
from labfleet.web.pages.frame import pages
from labfleet.web.services import services


@pages.get("/workers")
def workers() -> str:
    """All workers; who has not reported for a while is silent."""
    with services().sessions() as db:
        known = fleet.described(db, services().settings.order)
    shown = [{**views.worker(row, now).model_dump(), "state": _state(now)} for row, now in known]
    return render_template("workers.html", section="Workers", workers=shown)


def _state(worker: Worker) -> str:
    if worker.away:
        return "silent"
    return "stopping" if worker.stopping else "draining" if worker.draining else "here"
