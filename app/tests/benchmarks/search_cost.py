"""What a page of found jobs costs, however many there are and wherever the page is.

    LABFLEET_TEST_DATABASE=postgresql://… PYTHONPATH=app/tests python -m benchmarks.search_cost [JOBS …]

It makes a database of its own and removes it. With 1,000 and 1,000,000 jobs of fifty users it asks for pages
of fifty as the API does, by each filter, for a user and for an admin: the first page, and one amid all jobs;
and what is shared with them, public, or all that they may look at.
"""

from __future__ import annotations

import statistics
import sys
import time
import uuid
from collections.abc import Mapping

from sqlalchemy import Engine, select, text
from sqlalchemy.orm import Session

from benchmarks.order_cost import database
from labfleet.db.engine import session_factory
from labfleet.db.models import Job, User
from labfleet.jobs import search
from labfleet.jobs.search import Filter
from labfleet.jobs.states import State
from labfleet.jobs.visible import Whose

JOBS = (1000, 1_000_000)
OWNERS = 50
SAMPLES = 21
# One job in a hundred failed, one in fifty has the label, one in a hundred the word, one in a thousand waits;
# one in a hundred is public, and one in two hundred is shared with whoever looks.
FILL = """
INSERT INTO jobs (owner_id, spec, state, label, labels, protocols, datasets, public, created_at)
    SELECT owner.ids[1 + (i / 7) % :owners], '{}',
        CASE WHEN i % 1000 = 7 THEN 'queued' WHEN i % 100 = 11 THEN 'failed' ELSE 'success' END,
        CASE WHEN i % 100 = 13 THEN 'of the referee' ELSE 'of mine' END,
        CASE WHEN i % 50 = 17 THEN ARRAY['paper'] ELSE ARRAY['usual'] END,
        CASE WHEN i % 20 = 19 THEN ARRAY['rare'] ELSE ARRAY['often'] END,
        ARRAY[md5((i % 1000)::text)::uuid::text], i % 100 = 23, clock_timestamp() - make_interval(secs => i)
    FROM generate_series(1, :jobs) AS i, (SELECT array_agg(id) AS ids FROM users) AS owner
"""
LEND = """
INSERT INTO job_shares (job_id, user_id)
    SELECT id, :viewer FROM (SELECT id, owner_id, row_number() OVER () AS i FROM jobs) AS job
    WHERE i % 200 = 31 AND owner_id <> :viewer
"""
FILTERS: Mapping[str, Filter] = {
    "all": Filter(),
    "in progress": Filter(states=search.IN_PROGRESS),
    "errored": Filter(states=search.ERRORED),
    "success": Filter(states=[State.SUCCESS]),
    "protocol": Filter(protocol="rare"),
    "label": Filter(labels=["paper"]),
    "text": Filter(text="referee"),
    "dataset": Filter(datasets=[str(uuid.UUID("a87ff679a2f3e71d9181a67b7542122c"))]),
}


def page(
    session: Session, viewer: User, wanted: Filter, after: uuid.UUID | None, whose: Whose | None = None
) -> float:
    """The median of the time that a page takes, in milliseconds."""
    times = []
    for _ in range(SAMPLES):
        begin = time.perf_counter()
        search.list_jobs(session, viewer, wanted, 50, after, whose=whose)
        times.append((time.perf_counter() - begin) * 1000)
        session.expunge_all()
    return statistics.median(times)


def measure(engine: Engine, jobs: int) -> dict[tuple[str, str], tuple[float, float]]:
    """The first page and the one in the middle, by viewer and filter."""
    with engine.begin() as connection:
        connection.execute(text(FILL), {"owners": OWNERS, "jobs": jobs})
        viewer = connection.scalar(select(User.id).order_by(User.name).limit(1))
        connection.execute(text(LEND), {"viewer": viewer})
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text("VACUUM ANALYZE jobs, job_shares"))
    found = {}
    with session_factory(engine)() as session:
        middle = session.scalars(
            select(Job.id).order_by(Job.created_at.desc()).offset(jobs // 2).limit(1)
        ).one()
        user = session.scalars(select(User).order_by(User.name).limit(1)).one()
        admin = User(id=uuid.uuid4(), name="admin", is_admin=True)
        for who, viewer in (("user", user), ("admin", admin)):
            for name, wanted in FILTERS.items():
                pages = (page(session, viewer, wanted, after) for after in (None, middle))
                found[who, name] = (next(pages), next(pages))
            for whose in (Whose.SHARED, Whose.PUBLIC, Whose.ALL):
                pages = (page(session, viewer, Filter(), after, whose) for after in (None, middle))
                found[who, f"whose {whose}"] = (next(pages), next(pages))
    return found


def main() -> None:
    """Print a line for each viewer and filter, with the ratios to the smallest number of jobs."""
    sizes = [int(argument) for argument in sys.argv[1:]] or JOBS
    first: dict[tuple[str, str], tuple[float, float]] = {}
    print("   jobs viewer filter        first page  ratio  in the middle  ratio  (ms)")
    for jobs in sizes:
        with database(OWNERS, OWNERS) as engine:
            found = measure(engine, jobs)
        first = first or found
        for (who, name), (begin, middle) in found.items():
            few = first[who, name]
            told = f"{begin:10.2f} {begin / few[0]:6.2f} {middle:14.2f} {middle / few[1]:6.2f}"
            print(f"{jobs:7} {who:6} {name:12} {told}", flush=True)


if __name__ == "__main__":
    main()
