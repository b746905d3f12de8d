"""How busy the fleet was, minute by minute."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import timedelta

from sqlalchemy import func, insert, select, text
from sqlalchemy.orm import Session, sessionmaker

from labfleet.config import OrderSection
from labfleet.db.models import FleetSample, User
from labfleet.jobs import samples

RULES = OrderSection()
QUIET = {"workers": 1, "slots": 2, "busy": 0, "cores": 2, "load": 0.0, "queued": 0, "running": 0}


def test_a_sample_counts_those_who_are_here_and_what_waits(
    sessions: sessionmaker[Session],
    user: User,
    make_worker: Callable[..., str],
    make_tasks: Callable[..., list[uuid.UUID]],
) -> None:
    make_worker("w1", slots=4, free_slots=1, load1=2.5)
    make_worker("w2")
    make_worker("silent", last_seen=func.clock_timestamp() - timedelta(hours=1))
    make_tasks(user, 3)
    for _ in range(2):  # another dispatcher within the same minute changes nothing
        with sessions.begin() as session:
            samples.take(session, RULES)
    with sessions() as session:
        found = session.scalars(select(FleetSample)).all()
        assert samples.queue_length(session) == 3
    assert len({sample.at for sample in found}) == len(found) <= 2  # two where a minute ended meanwhile
    for sample in found:
        assert (sample.workers, sample.slots, sample.busy, sample.cores, sample.load) == (2, 6, 3, 4, 2.5)
        assert (sample.queued, sample.running) == (3, 0)


def test_old_samples_go_and_a_bin_shows_its_highest(sessions: sessionmaker[Session]) -> None:
    bin_start = text("date_bin('15 minutes', clock_timestamp(), 'epoch') - interval '1 hour'")
    with sessions.begin() as session:
        start = session.scalar(select(bin_start))
        assert start is not None
        rows = [(start, 5), (start + timedelta(minutes=1), 9), (start - timedelta(days=9), 1)]
        session.execute(insert(FleetSample), [{**QUIET, "at": at, "queued": queued} for at, queued in rows])
        samples.take(session, RULES)
    with sessions() as session:
        oldest, *_ = samples.recent(session)
        kept = session.scalar(select(func.min(FleetSample.at)))
    assert (oldest.at, oldest.queued) == (start, 9)
    assert kept == start
