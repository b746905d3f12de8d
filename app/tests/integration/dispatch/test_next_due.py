"""When the dispatcher has to look again, and what the question costs."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import URL, Engine, text
from sqlalchemy.orm import Session

from labfleet.db.engine import engine_for
from labfleet.db.models import User
from labfleet.dispatch.process import next_due

Make = Callable[..., list[uuid.UUID]]
READ = text(
    "SELECT seq_tup_read + coalesce(idx_tup_fetch, 0) FROM pg_stat_xact_user_tables WHERE relname = 'tasks'"
)


@pytest.fixture
def kept(engine: Engine, database_url: URL) -> Iterator[Engine]:
    """An engine of one connection, which keeps the plans of what it was asked often."""
    one = engine_for(database_url, pool_size=1)
    yield one
    one.dispose()


def test_nothing_is_due(kept: Engine, user: User, make_tasks: Make) -> None:
    make_tasks(user, 3)
    with Session(kept) as session:
        assert next_due(session, 60) == float("inf")


@pytest.mark.parametrize("before", [5, 300])
def test_it_reads_no_more_when_the_queue_has_grown(
    kept: Engine, user: User, make_tasks: Make, before: int
) -> None:
    make_tasks(user, before, state="success")
    with kept.begin() as connection:
        connection.execute(text("ANALYZE tasks"))
    for _ in range(20):
        with Session(kept) as session:
            next_due(session, 60)
    make_tasks(user, 3000)
    with Session(kept) as session:
        already = session.scalar(READ)
        next_due(session, 60)
        assert session.scalar(READ) - already < 100
