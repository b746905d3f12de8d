"""Which task runs next: the two statements that say so, and what they answer.

They are all there is to the order. The dispatcher places tasks by them, `labfleet queue list` shows them, and
`labfleet queue explain` tells somebody's place in them. What they cost depends on how many owners wait in how
many lanes and on how many tasks are wanted, never on how many tasks wait.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import RowMapping, TextClause, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY, UUID
from sqlalchemy.orm import Session
from sqlalchemy.types import Text

from labfleet.jobs.needs import Needs

WAITS = "state = 'queued' AND ready AND NOT held AND placed_on IS NULL"
"""A task that waits for a worker, in the words of the index ix_tasks_waiting."""
TAKEN = "state IN ('queued', 'running') AND placed_on IS NOT NULL"
"""A task that fills a slot of a worker, in the words of the index ix_tasks_placed."""

WAITING = f"""
-- Who waits, and for what: each lane (key and needs, alike for every task in it) with each owner in it.
-- The index begins with lane and owner, so every step jumps to the next pair over all the tasks between.
WITH RECURSIVE pairs AS (
    (
        SELECT lane, owner_id, key, cores, memory_bytes, wall_seconds, tags
        FROM tasks WHERE {WAITS}
        ORDER BY lane, owner_id LIMIT 1
    )
    UNION ALL
    SELECT next.* FROM pairs CROSS JOIN LATERAL (
        SELECT lane, owner_id, key, cores, memory_bytes, wall_seconds, tags
        FROM tasks WHERE {WAITS} AND (lane, owner_id) > (pairs.lane, pairs.owner_id)
        ORDER BY lane, owner_id LIMIT 1
    ) AS next
)
SELECT * FROM pairs
"""  # noqa: S608 - constants of this module

ORDER = f"""
WITH
-- 1. The first tasks of each owner in each lane, as the owner wants them: by priority, then as submitted.
candidates AS (
    SELECT first.*
    FROM unnest(:lanes, :owners) AS pair (lane, owner_id)
    CROSS JOIN LATERAL (
        SELECT id, job_id, lane, owner_id, priority, sequence, cores
        FROM tasks
        WHERE {WAITS} AND lane = pair.lane AND owner_id = pair.owner_id
            AND (not_before IS NULL OR not_before <= clock_timestamp())
        ORDER BY priority DESC, sequence
        LIMIT :depth
    ) AS first
),
-- 2. What each owner and each group has on the workers already.
owner_has AS (
    SELECT owner_id, count(*) AS tasks, sum(cores)::bigint AS cores FROM tasks WHERE {TAKEN} GROUP BY owner_id
),
group_has AS (
    SELECT users.group_name, sum(owner_has.tasks)::bigint AS tasks, sum(owner_has.cores)::bigint AS cores
    FROM owner_has JOIN users ON users.id = owner_has.owner_id
    GROUP BY users.group_name
),
-- 3. What each owner would have with this task and his tasks before it.
--    One that asks for more cores than its owner or group may ever have is passed over: it would stop others.
counted AS (
    SELECT candidates.*, users.weight, users.max_running, users.max_cores, users.group_name,
        groups.max_running AS group_max_running, groups.max_cores AS group_max_cores,
        coalesce(owner_has.tasks, 0) + row_number() OVER his AS owner_tasks,
        coalesce(owner_has.cores, 0) + sum(candidates.cores) OVER his AS owner_cores,
        row_number() OVER (PARTITION BY lane, candidates.owner_id ORDER BY priority DESC, sequence) AS nth
    FROM candidates
    JOIN users ON users.id = candidates.owner_id
    LEFT JOIN groups ON groups.name = users.group_name
    LEFT JOIN owner_has ON owner_has.owner_id = candidates.owner_id
    WHERE users.disabled_at IS NULL
        AND candidates.cores <= least(users.max_cores, groups.max_cores, candidates.cores)
    WINDOW his AS (PARTITION BY candidates.owner_id ORDER BY priority DESC, sequence)
),
-- 4. Fair share: who has little for his weight comes before who has much, and among equals who was given a
--    worker least recently. So everybody's first task comes soon. What is beyond an owner's quota waits.
shared AS (
    SELECT counted.*, (owner_tasks - 1) / weight AS share, coalesce(turns.at, '-infinity') AS turn
    FROM counted LEFT JOIN turns ON turns.owner_id = counted.owner_id
    WHERE owner_tasks <= coalesce(max_running, owner_tasks)
        AND owner_cores <= coalesce(max_cores, owner_cores)
),
-- 5. The same for the group: what it would have with this task and its members' tasks before it.
grouped AS (
    SELECT shared.*,
        coalesce(group_has.tasks, 0) + row_number() OVER theirs AS group_tasks,
        coalesce(group_has.cores, 0) + sum(shared.cores) OVER theirs AS group_cores
    FROM shared LEFT JOIN group_has ON group_has.group_name = shared.group_name
    WINDOW theirs AS (PARTITION BY shared.group_name ORDER BY priority DESC, share, turn, sequence)
)
-- 6. The order: the higher priority first, then the smaller share, the longer without a turn, the older task.
SELECT id, job_id, lane, owner_id, priority, share, nth = :depth AS more
FROM grouped
WHERE group_tasks <= coalesce(group_max_running, group_tasks)
    AND group_cores <= coalesce(group_max_cores, group_cores)
ORDER BY priority DESC, share, turn, sequence
"""  # noqa: S608 - constants of this module


@dataclass(frozen=True)
class Pair:
    """An owner with waiting tasks in a lane, and what each task of the lane needs."""

    lane: str
    owner_id: uuid.UUID
    needs: Needs


@dataclass(frozen=True)
class Candidate:
    """A task in its place. `more`: after it there may be others of its lane and owner that were not read."""

    id: uuid.UUID
    job_id: uuid.UUID
    lane: str
    owner_id: uuid.UUID
    priority: int
    share: float
    more: bool


def waiting(session: Session) -> list[Pair]:
    """Who waits in which lane."""
    return [_pair(row) for row in session.execute(text(WAITING)).mappings()]


def ordered(session: Session, pairs: Sequence[Pair], depth: int) -> list[Candidate]:
    """The first `depth` tasks of each of the pairs, all in the order in which they come."""
    if not pairs:
        return []
    values: dict[str, Any] = {
        "lanes": [pair.lane for pair in pairs],
        "owners": [pair.owner_id for pair in pairs],
        "depth": depth,
    }
    return [Candidate(**row) for row in session.execute(STATEMENT, values).mappings()]


def _pair(row: RowMapping) -> Pair:
    needs = Needs(row["key"], row["cores"], row["memory_bytes"], row["wall_seconds"], tuple(row["tags"]))
    return Pair(row["lane"], row["owner_id"], needs)


STATEMENT: TextClause = text(ORDER).bindparams(
    bindparam("lanes", type_=ARRAY(Text)), bindparam("owners", type_=ARRAY(UUID))
)
