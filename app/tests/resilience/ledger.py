"""What the database has kept of the tasks of one label: the books that must balance after any fault."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from typing import Any

from acceptance.lab import Machine
from acceptance.waiting import wait_for

FINAL = "('success','failed','partial','inapplicable','cancelled')"
PAUSE_SECONDS = 0.5
"""Between two looks: looking must not keep the machines busy."""
ENTRIES = f"""
SELECT t.id, t.state, t.failure, t.message, t.attempt, t.worker,
       extract(epoch FROM t.created_at)::float AS created,
       extract(epoch FROM t.finished_at)::float AS finished,
       (SELECT count(*) FROM events e WHERE e.task_id = t.id
           AND e.to_state IN {FINAL} AND e.from_state NOT IN {FINAL}) AS endings,
       (SELECT count(*) FROM attempts a WHERE a.task_id = t.id AND a.outcome = 'success') AS successes,
       (SELECT count(*) FROM attempts a WHERE a.task_id = t.id) AS claims,
       (SELECT count(*) FROM artifacts r WHERE r.task_id = t.id AND r.attempt = t.attempt) AS marks
FROM tasks t JOIN jobs j ON j.id = t.job_id WHERE j.label = '%s'
"""


@dataclass(frozen=True)
class Entry:
    """One task: how it stands, how often it ended, succeeded and was claimed, its artifacts that count."""

    id: str
    state: str
    failure: str | None
    message: str
    attempt: int
    worker: str | None
    created: float
    finished: float | None
    endings: int
    successes: int
    claims: int
    marks: int


def query(database: Machine, statement: str) -> list[dict[str, Any]]:
    """The rows of a SELECT, by the database's own superuser on its own machine."""
    text = f"SELECT coalesce(json_agg(row_to_json(r)), '[]') FROM ({statement}) r"
    told = database.run(f"runuser -u postgres -- psql -XAtqd labfleet -c {shlex.quote(text)}")
    rows: list[dict[str, Any]] = json.loads(told)
    return rows


def entries(database: Machine, label: str) -> list[Entry]:
    """All tasks of the jobs with this label."""
    return [Entry(**row) for row in query(database, ENTRIES % label)]


def outcomes(database: Machine, task: str) -> dict[int, str]:
    """What became of each attempt."""
    rows = query(database, f"SELECT number, outcome FROM attempts WHERE task_id = '{task}'")
    return {row["number"]: row["outcome"] for row in rows}


def now(database: Machine) -> float:
    """The database's clock: all times that are compared are its."""
    return float(query(database, "SELECT extract(epoch FROM clock_timestamp())::float AS now")[0]["now"])


def open_tasks(database: Machine, label: str) -> int:
    """How many tasks whose label begins like this are not final yet."""
    return int(
        query(
            database,
            f"SELECT count(*) AS n FROM tasks t JOIN jobs j ON j.id = t.job_id "
            f"WHERE j.label LIKE '{label}%' AND t.state NOT IN {FINAL}",
        )[0]["n"]
    )


def settle(database: Machine, label: str, seconds: float) -> list[Entry]:
    """The tasks once all are final; AssertionError with those that are not after `seconds`."""
    wait_for(
        lambda: open_tasks(database, label) == 0,
        seconds,
        f"the tasks of {label} to be final",
        lambda: [entry for entry in entries(database, label) if entry.finished is None],
        PAUSE_SECONDS,
    )
    return entries(database, label)


def wait_few(database: Machine, label: str, few: int, seconds: float) -> None:
    """Wait until not more than a few tasks whose label begins like this are open."""
    wait_for(
        lambda: open_tasks(database, label) <= few,
        seconds,
        f"all but {few} tasks of {label} to be final",
        lambda: open_tasks(database, label),
        PAUSE_SECONDS,
    )


def lost(booked: list[Entry], expected: int) -> int:
    """How many of the tasks that the lab has taken are not there or not final."""
    return expected - sum(entry.finished is not None for entry in booked)


def unbalanced(booked: list[Entry]) -> list[Entry]:
    """Tasks that did not end exactly once, successfully, with one attempt that counts and one mark."""
    right = ("success", 1, 1, 1)
    return [entry for entry in booked if (entry.state, entry.endings, entry.successes, entry.marks) != right]


def late(booked: list[Entry], repaired: float, seconds: float) -> list[Entry]:
    """Tasks that ended later than `seconds` after the repair (after their submission if that was later)."""
    return [
        entry
        for entry in booked
        if entry.finished is None or entry.finished > max(repaired, entry.created) + seconds
    ]


def check(booked: list[Entry], expected: int, repaired: float, seconds: float) -> None:
    """Nothing lost, exactly one ending and one effect each, and all of it in time."""
    assert lost(booked, expected) == 0, booked
    assert len(booked) == expected, booked
    assert unbalanced(booked) == []
    assert late(booked, repaired, seconds) == []
