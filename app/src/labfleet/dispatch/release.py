"""Release: the tasks whose turn it is are placed on workers, and their messages go into the outbox."""

from __future__ import annotations

import math
import uuid
from collections.abc import Sequence

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY, UUID
from sqlalchemy.orm import Session
from sqlalchemy.types import Text

from labfleet.config import OrderSection
from labfleet.dispatch.recent import Recent
from labfleet.jobs import fleet as fleets
from labfleet.jobs import order, placement
from labfleet.jobs.order import WAITS, Candidate, Pair
from labfleet.jobs.placement import Fleet, Verdict

# Any constant does: of all dispatchers only one at a time decides who comes next.
LOCK = 4_150_318

PLACE = f"""
WITH chosen AS (
    -- Found by their ids only: with the condition here too, old statistics may lead through all that waits.
    SELECT tasks.id, choice.worker, choice.nth, {WAITS} AS waits
    FROM unnest(:tasks, :workers) WITH ORDINALITY AS choice (id, worker, nth)
    JOIN tasks ON tasks.id = choice.id
    -- Who holds a task may be about to cancel or hold it; it is seen again in the next turn.
    FOR NO KEY UPDATE OF tasks SKIP LOCKED
),
placed AS (
    UPDATE tasks SET placed_on = chosen.worker, dispatched_at = NULL
    FROM chosen WHERE tasks.id = chosen.id AND chosen.waits
    RETURNING tasks.id, tasks.attempt, tasks.owner_id, chosen.nth
),
served AS (
    INSERT INTO turns (owner_id, at) SELECT DISTINCT owner_id, now() FROM placed
    ON CONFLICT (owner_id) DO UPDATE SET at = excluded.at
)
INSERT INTO outbox (kind, task_id, attempt) SELECT 'run', id, attempt FROM placed ORDER BY nth
RETURNING task_id
"""  # noqa: S608 - constants of this package

_PLACE = text(PLACE).bindparams(
    bindparam("tasks", type_=ARRAY(UUID)), bindparam("workers", type_=ARRAY(Text))
)


def release(session: Session, rules: OrderSection, recent: Recent | None = None) -> int:
    """Place the next tasks, `release_batch` at most; how many. The caller commits, and asks again after some.

    0 also while another dispatcher does it: that one hears of the same news. `recent` remembers what was
    placed, from turn to turn; without it no task is placed ahead.
    """
    if not session.scalar(text("SELECT pg_try_advisory_xact_lock(:lock)"), {"lock": LOCK}):
        return 0
    fleet = fleets.load(session, rules, recent.tasks() if recent else ())
    limit = min(fleet.free, rules.release_batch)
    if limit == 0:
        return 0
    pairs = _open(fleet, order.waiting(session))
    if not pairs:
        return 0
    # As many of each owner as there are slots would always do; so many mostly do, the rest comes next time.
    depth = 1 + math.ceil(limit / len(pairs))
    needs = {pair.lane: pair.needs for pair in pairs}
    candidates = order.ordered(session, pairs, depth)
    placed = _place(session, placement.assign(fleet, candidates, needs, limit))
    if recent:
        recent.add(placed)
    return len(placed)


def _open(fleet: Fleet, pairs: Sequence[Pair]) -> list[Pair]:
    """Those whose tasks a worker could take now, or that wait there for cores or a slot; none if none can."""
    verdicts = {pair.lane: fleet.verdict(pair.needs) for pair in pairs}
    if Verdict.ROOM not in verdicts.values():
        return []
    return [
        pair
        for pair in pairs
        if verdicts[pair.lane] in {Verdict.ROOM, Verdict.CORES} or fleet.holds_back(pair.needs)
    ]


def _place(session: Session, chosen: Sequence[tuple[Candidate, str]]) -> Sequence[uuid.UUID]:
    if not chosen:
        return ()
    values = {"tasks": [candidate.id for candidate, _ in chosen], "workers": [worker for _, worker in chosen]}
    return session.scalars(_PLACE, values).all()
