"""What the search over protocols, datasets and results costs, for a user and for an admin.

    LABFLEET_TEST_DATABASE=postgresql://… PYTHONPATH=app/tests python -m benchmarks.find_cost [EACH …]

It makes a database of its own and removes it. With so many datasets and results (a hundredth as many
protocols) of fifty users, it asks for the first page, and for the facets, of what a person might look for.
"""

from __future__ import annotations

import statistics
import sys
import time
import uuid
from collections.abc import Callable, Mapping

from sqlalchemy import Engine, select, text
from sqlalchemy.orm import Session

from benchmarks.order_cost import database
from labfleet import search
from labfleet.db.engine import session_factory
from labfleet.db.models import User
from labfleet.search import Filter, Kind

EACH = (1000, 30_000)
OWNERS = 50
SAMPLES = 11
# One in a hundred has the rare word, label and term; nine in ten the one that tells nothing.
FILL = """
INSERT INTO protocols (name, title, description, owner_id, public, terms, formats)
    SELECT 'protocol-' || i, 'Protocol ' || i, CASE WHEN i % 100 = 3 THEN 'of networks' ELSE 'of data' END,
        owner.ids[1 + i % :owners], i % 3 > 0, ARRAY['obo:' || i % 40], ARRAY['csv']
    FROM generate_series(1, :each / 100) AS i, (SELECT array_agg(id) AS ids FROM users) AS owner;
INSERT INTO blobs (sha256, size) VALUES (repeat('a', 64), 3);
INSERT INTO datasets (name, sha256, size, owner_id, public, description, labels, terms, licence, created_at)
    SELECT 'plate_' || i || '.csv', repeat('a', 64), 3, owner.ids[1 + i % :owners], i % 10 = 0,
        CASE WHEN i % 100 = 13 THEN 'leukaemia of mice' ELSE 'measured on some day in the lab' END,
        CASE WHEN i % 100 = 17 THEN ARRAY['paper'] ELSE ARRAY['usual ' || i % 30] END,
        ARRAY['obo:' || i % 40, CASE WHEN i % 100 = 19 THEN 'rare' ELSE 'often' END],
        CASE WHEN i % 2 = 0 THEN 'CC0-1.0' ELSE '' END, clock_timestamp() - make_interval(secs => i)
    FROM generate_series(1, :each) AS i, (SELECT array_agg(id) AS ids FROM users) AS owner;
INSERT INTO jobs (owner_id, spec, state, tasks_total, tasks_success, label, note, labels, protocols, datasets,
    created_at)
    SELECT found.owner_id, '{}', 'success', 1, 1, 'Run ' || i, 'on the data of some day', ARRAY['run'],
        ARRAY['protocol-' || 1 + i % (:each / 100)], ARRAY[found.id::text],
        clock_timestamp() - make_interval(secs => i)
    FROM (SELECT id, owner_id, row_number() OVER () AS i FROM datasets) AS found;
"""
FILTERS: Mapping[str, Filter] = {
    "everything": Filter(),
    "a rare word": Filter(text="leukaemia"),
    "two words": Filter(text="leukaemia plate"),
    "a word of all": Filter(text="day"),
    "a beginning": Filter(text="pl"),
    "nothing": Filter(text="nowhere"),
    "a rare term": Filter(terms=["rare"]),
    "a frequent term": Filter(terms=["often"]),
    "results of a term": Filter(kinds=[Kind.RESULT], terms=["obo:3"]),
    "a label": Filter(labels=["paper"]),
    "a format": Filter(format="csv"),
}


def took(what: Callable[[], object]) -> float:
    """The median of the time that it takes, in milliseconds."""
    times = []
    for _ in range(SAMPLES):
        begin = time.perf_counter()
        what()
        times.append((time.perf_counter() - begin) * 1000)
    return statistics.median(times)


def measure(engine: Engine, each: int) -> dict[tuple[str, str], tuple[float, float]]:
    """The first page and the facets, by viewer and filter."""
    with engine.begin() as connection:
        for statement in filter(str.strip, FILL.split(";")):
            connection.execute(text(statement), {"owners": OWNERS, "each": each})
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text("VACUUM ANALYZE"))
    with session_factory(engine)() as session:
        user = session.scalars(select(User).limit(1)).one()
        admin = User(id=uuid.uuid4(), name="admin", is_admin=True)
        return {
            (who, name): _both(session, viewer, wanted)
            for who, viewer in (("user", user), ("admin", admin))
            for name, wanted in FILTERS.items()
        }


def _both(session: Session, viewer: User, wanted: Filter) -> tuple[float, float]:
    return (
        took(lambda: search.find(session, viewer, wanted)),
        took(lambda: search.facets(session, viewer, wanted)),
    )


def main() -> None:
    """Print a line for each viewer and filter."""
    print("   each viewer filter             first page  facets  (ms)")
    for each in [int(argument) for argument in sys.argv[1:]] or EACH:
        with database(OWNERS, OWNERS) as engine:
            found = measure(engine, each)
        for (who, name), (page, facets) in found.items():
            print(f"{each:7} {who:6} {name:18} {page:10.1f} {facets:7.1f}", flush=True)


if __name__ == "__main__":
    main()
