"""What deciding the order costs the database, however much waits.

    LABFLEET_TEST_DATABASE=postgresql://… python app/tests/benchmarks/order_cost.py [TASKS …]

It makes a database of its own and removes it. With 100, 100,000 and 1,000,000 tasks queued, of one owner and
of fifty, it measures the two statements of `jobs.order` as the server itself does (EXPLAIN ANALYZE, planning
and execution, for eight free slots), and a dispatcher's whole turn: one that finds no free slot, one that
places one task, one that places eight. Last, a task's whole way through the database: placed, its message
noted, claimed, finished, each with its commit; what is between (queue tier, broker, sandbox) knows no other.
"""

from __future__ import annotations

import os
import secrets
import statistics
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from sqlalchemy import Engine, TextClause, create_engine, make_url, text
from sqlalchemy.orm import Session, sessionmaker

from labfleet.config import DispatcherSection, OrderSection
from labfleet.db.engine import engine_for, session_factory
from labfleet.db.upgrade import upgrade
from labfleet.dispatch.batch import Courier, dispatch_batch
from labfleet.dispatch.release import release
from labfleet.dispatch.runner_client import Message, Status, Target
from labfleet.jobs import attempts, finishing, order
from labfleet.jobs.finishing import Ending
from labfleet.jobs.states import Outcome
from labfleet.log import configure

OWNERS = (1, 50)
TASKS = (100, 100_000, 1_000_000)
SAMPLES = 41
RULES = OrderSection(presence_timeout_seconds=1e6)
DEPTH = {1: 9, 50: 2}
"""What a turn reads of each owner with eight slots free."""
FILL = """
INSERT INTO users (name, password_hash) SELECT 'user' || i, '!' FROM generate_series(1, :owners) AS i;
INSERT INTO protocols (name) VALUES ('p');
INSERT INTO protocol_versions (protocol_id, commit, version, manifest)
    SELECT id, repeat('a', 40), '1', '{}' FROM protocols;
INSERT INTO jobs (owner_id, spec) SELECT id, '{}' FROM users;
INSERT INTO workers
    (name, keys, slots, free_slots, cores, load1, memory_total, memory_free, disk_free, version)
    SELECT 'w' || i, '{python}', 2, 2, 2, 0, 4000000, 1, 1, '1' FROM generate_series(1, 4) AS i;
INSERT INTO tasks
    (job_id, owner_id, protocol_version_id, name, lane, memory_bytes, wall_seconds, key, parameters, inputs)
    SELECT jobs.id, owner_id, protocol_versions.id, 't' || i, 'python', 1000, 600, 'python', '{}', '{}'
    FROM generate_series(1, :each) AS i, jobs, protocol_versions ORDER BY i;
"""


@contextmanager
def database(owners: int, tasks: int) -> Iterator[Engine]:
    """A migrated database with so many tasks that wait."""
    server = make_url(os.environ["LABFLEET_TEST_DATABASE"]).set(drivername="postgresql+psycopg")
    admin = create_engine(server, isolation_level="AUTOCOMMIT")
    name = f"labfleet_bench_{secrets.token_hex(6)}"
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine = engine_for(server.set(database=name))
    try:
        upgrade(engine)
        with engine.begin() as connection:
            for statement in filter(str.strip, FILL.split(";")):
                connection.execute(text(statement), {"owners": owners, "each": tasks // owners})
        with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            connection.execute(text("VACUUM ANALYZE"))
        yield engine
    finally:
        engine.dispose()
        with admin.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        admin.dispose()


def explained(session: Session, statement: TextClause, values: dict[str, object]) -> float:
    """The median of what the server says that planning and execution took, in milliseconds."""
    times = []
    explain = text(f"EXPLAIN (ANALYZE, TIMING OFF) {statement.text}").bindparams(
        *statement._bindparams.values()
    )
    for _ in range(SAMPLES):
        lines = [row[0] for row in session.execute(explain, values)]
        times.append(
            sum(float(line.split()[2]) for line in lines if line.startswith(("Planning T", "Execution T")))
        )
    return statistics.median(times)


def turn(sessions: Callable[[], Session], slots: int) -> float:
    """The median of one turn with so many free slots, in milliseconds; nothing of it stays."""
    times = []
    for _ in range(SAMPLES):
        with sessions() as session:
            session.execute(
                text("UPDATE workers SET slots = CASE WHEN name = 'w1' THEN :n ELSE 0 END"), {"n": slots}
            )
            begin = time.perf_counter()
            assert release(session, RULES) == min(slots, 8)
            times.append((time.perf_counter() - begin) * 1000)
            session.rollback()
    return statistics.median(times)


class Confirming:
    """A queue tier that takes no time."""

    def __init__(self) -> None:
        self.last: Target

    def send(self, verb: str, messages: Sequence[Message]) -> Mapping[Target, Status]:
        """All are confirmed."""
        del verb
        targets = [(uuid.UUID(message["task"]), int(message["attempt"])) for message in messages]
        self.last = targets[-1]
        return dict.fromkeys(targets, Status.CONFIRMED)


def way(sessions: sessionmaker[Session]) -> float:
    """The median of a task's way, one after the other, in milliseconds."""
    runner = Confirming()
    courier = Courier(runner, ["key"], DispatcherSection(runner_urls=["https://localhost"]))
    with sessions.begin() as session:
        session.execute(text("UPDATE workers SET slots = CASE WHEN name = 'w1' THEN 1 ELSE 0 END"))
    times = []
    for _ in range(SAMPLES):
        begin = time.perf_counter()
        with sessions.begin() as session:
            assert release(session, RULES) == 1
        with sessions.begin() as session:
            dispatch_batch(session, courier)
        with sessions.begin() as session:
            attempts.claim(session, *runner.last, "w1", "claim", lease_seconds=60)
        with sessions.begin() as session:
            finishing.finish(session, *runner.last, Ending(Outcome.SUCCESS))
        times.append((time.perf_counter() - begin) * 1000)
    return statistics.median(times)


def measure(owners: int, tasks: int) -> tuple[float, ...]:
    """Milliseconds: the two statements together, turns that place none, one and eight, and a task's way."""
    with database(owners, tasks) as engine:
        sessions = session_factory(engine)
        with sessions() as session:
            pairs = order.waiting(session)
            values = {
                "lanes": [pair.lane for pair in pairs],
                "owners": [pair.owner_id for pair in pairs],
                "depth": DEPTH[owners],
            }
            statements = explained(session, text(order.WAITING), {}) + explained(
                session, order.STATEMENT, values
            )
        return statements, turn(sessions, 0), turn(sessions, 1), turn(sessions, 8), way(sessions)


def main() -> None:
    """Print a line for each size, with its ratio to the smallest."""
    sizes = [int(argument) for argument in sys.argv[1:]] or TASKS
    configure("warning")
    print("owners  queued  statements  ratio  no slot  1 task  8 tasks whole way  (ms)")
    for owners in OWNERS:
        first = None
        for tasks in sizes:
            statements, *turns = measure(owners, tasks)
            first = first or statements
            told = "".join(f"{value:9.2f}" for value in turns)
            print(f"{owners:6} {tasks:8} {statements:10.2f} {statements / first:6.2f}{told}", flush=True)


if __name__ == "__main__":
    main()
