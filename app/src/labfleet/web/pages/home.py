"""The first page: what runs, what has ended, and how busy the fleet is."""

from __future__ import annotations

import time
from dataclasses import dataclass

from flask import g, render_template

from labfleet.jobs import fleet, samples, search
from labfleet.jobs.placement import Worker
from labfleet.jobs.samples import Sample
from labfleet.jobs.states import State
from labfleet.web.api import views
from labfleet.web.pages.frame import pages
from labfleet.web.pages.sparks import Spark, spark
from labfleet.web.services import services

SHOWN = 8
DAY = 24 * 3600
ENDED = tuple(state for state in State if state.final)


@dataclass(frozen=True)
class Figure:
    """A number of the fleet, what it counts, and how it was over the last day."""

    value: str
    of: str
    name: str
    plot: Spark | None


@pages.get("/")
def home() -> str:
    """The viewer's own jobs, an admin's too, and the fleet."""
    with services().sessions() as db:
        mine = search.Filter(user=g.user.name, states=search.IN_PROGRESS)
        open_jobs = search.list_jobs(db, g.user, mine, SHOWN)
        ended = search.list_jobs(db, g.user, search.Filter(user=g.user.name, states=ENDED), SHOWN)
        workers = fleet.load(db, services().settings.order).workers
        queued = samples.queue_length(db)
        day = samples.recent(db)
        return render_template(
            "home.html",
            section="Home",
            open=[views.summary(job, g.user) for job in open_jobs.items],
            more_open=open_jobs.next is not None,
            ended=[views.summary(job, g.user) for job in ended.items],
            figures=figures(workers, queued, day, time.time()),
            silent=[worker.name for worker in workers if worker.away],
        )


def figures(workers: list[Worker], queued: int, day: list[Sample], now: float) -> list[Figure]:
    """What the fleet is doing, with its last day."""
    here = [worker for worker in workers if not worker.away]
    slots, cores = sum(worker.slots for worker in here), sum(worker.cores for worker in here)
    busy, load = sum(worker.taken for worker in here), sum(worker.load for worker in here)
    span = (now - DAY, now)

    def plot(name: str, what: str, least: float = 1) -> Spark | None:
        points = [(sample.at.timestamp(), float(getattr(sample, name))) for sample in day]
        return spark(points, span, what, least)

    return [
        Figure(str(busy), f"of {slots}", "slots busy", plot("busy", "Busy slots", slots)),
        Figure(str(queued), "", "tasks waiting in the queue", plot("queued", "Waiting tasks")),
        Figure(f"{load:.1f}", f"on {cores} cores", "load", plot("load", "Load", cores)),
        Figure(str(len(here)), f"of {len(workers)}", "workers here", plot("workers", "Workers")),
    ]
