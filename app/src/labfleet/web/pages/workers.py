"""The machines that run the analyses."""

from __future__ import annotations

from datetime import timedelta

from flask import render_template
from sqlalchemy import func, select

from labfleet.jobs import presence
from labfleet.web.pages.frame import pages
from labfleet.web.services import services

# Three reports missed at the default of ten seconds.
SILENT_AFTER = timedelta(seconds=35)


@pages.get("/workers")
def workers() -> str:
    """All workers; who has not reported for a while is silent."""
    with services().sessions() as db:
        now = db.scalar(select(func.clock_timestamp()))
        rows = presence.list_workers(db)
    shown = [
        {
            "name": row.name,
            "keys": row.keys,
            "slots": row.slots,
            "free_slots": row.free_slots,
            "cores": row.cores,
            "load1": row.load1,
            "memory_free": row.memory_free,
            "disk_free": row.disk_free,
            "version": row.version,
            "last_seen": row.last_seen,
            "here": now is not None and now - row.last_seen < SILENT_AFTER,
        }
        for row in rows
    ]
    return render_template("workers.html", section="Workers", workers=shown)
