from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, update
from sqlalchemy.orm import Session, sessionmaker

from labfleet.cli.credentials import Credentials, save
from labfleet.db.models import User, WorkerRow
from labfleet.users.service import issue_token

Sessions = sessionmaker[Session]
Run = Callable[..., Any]


@pytest.fixture
def as_admin(signed_in: Run, server: Any, admin: User, sessions: Sessions) -> Callable[[], None]:
    """From here on the command line is an admin's."""

    def become() -> None:
        with sessions.begin() as session:
            save(Credentials(server.url, issue_token(session, session.merge(admin))))

    return become


def test_a_job_tells_why_it_waits(signed_in: Run, make_worker: Any, make_tasks: Any, user: User) -> None:
    make_worker("w1", slots=1)
    make_tasks(user, 3, tags=["gpu"])
    make_tasks(user, 1)
    listed = signed_in("queue", "list")
    assert listed.code == 0, listed.err
    lines = listed.out.splitlines()
    assert lines[0].split() == ["place", "job", "owner", "priority", "share", "needs"]
    assert [line.split()[0] for line in lines[1:]] == ["1", "2", "3", "4"]
    job = lines[1].split()[1]
    told = signed_in("queue", "explain", job)
    assert told.out.splitlines() == [
        "3 tasks with python, 1 core, 1.0 MiB, 600 s, tag gpu",
        "  No worker that serves 'python' has the tags gpu. (no_such_worker)",
    ]
    other = json.loads(signed_in("queue", "explain", lines[4].split()[1], "--json").out)
    assert other[0]["reason"]["code"] == "next"
    assert json.loads(signed_in("queue", "list", "--limit", "1", "--json").out)[0]["place"] == 1


def test_when_nothing_waits(signed_in: Run) -> None:
    assert signed_in("queue", "list").err == "Nothing waits for a worker.\n"
    ended = signed_in("queue", "explain", "00000000-0000-4000-8000-000000000000")
    assert (ended.code, ended.err.splitlines()[0][:22]) == (1, "Error: There is no job")


def test_a_worker_is_drained_used_again_and_forgotten(
    signed_in: Run, as_admin: Callable[[], None], make_worker: Any, sessions: Sessions
) -> None:
    make_worker("w1", slots=2, free_slots=1)
    refused = signed_in("worker", "drain", "w1")
    assert (refused.code, refused.err.splitlines()[0]) == (1, "Error: Only an admin may do this.")
    as_admin()
    drained = signed_in("worker", "drain", "w1")
    assert drained.out == "w1 gets no new tasks; 0 tasks on it now.\n"
    assert "draining" in signed_in("worker", "list").out
    assert json.loads(signed_in("worker", "resume", "w1", "--json").out)["draining"] is False
    assert "it is still there" in signed_in("worker", "remove", "w1").err
    with sessions.begin() as session:
        session.execute(update(WorkerRow).values(last_seen=func.clock_timestamp() - timedelta(minutes=1)))
    assert "away" in signed_in("worker", "list").out
    assert signed_in("worker", "remove", "w1").out == "w1 is forgotten.\n"


def test_quotas_of_users_and_groups(signed_in: Run, as_admin: Callable[[], None]) -> None:
    assert "no limit" in signed_in("quota", "show").out
    assert signed_in("quota", "show", "root").code == 1
    as_admin()
    made = signed_in("quota", "set", "--group", "lab", "--max-running", "4")
    assert made.code == 0, made.err
    assert made.out.splitlines()[0] == "group lab: no users"
    limits = ("--max-cores", "8", "--max-stored", "500G", "--weight", "2", "--member-of", "lab")
    changed = signed_in("quota", "set", "ada", *limits)
    assert changed.code == 0, changed.err
    lines = [line.rstrip() for line in changed.out.splitlines()]
    assert lines[0] == "ada, group lab, weight 2"
    assert [line.split()[-2:] for line in lines[2:5]] == [["no", "limit"], ["0", "8"], ["500.0", "GiB"]]
    more = json.loads(signed_in("quota", "set", "--group", "lab", "--max-cores", "9", "--json").out)
    assert (more["max_running"], more["max_cores"], more["users"]) == (4, 9, ["ada"])
    lifted = json.loads(signed_in("quota", "set", "ada", "--max-cores", "none", "--json").out)
    assert (lifted["max_cores"], lifted["max_stored_bytes"]) == (None, 500 * 2**30)
    assert signed_in("quota", "show", "--group", "lab").out.startswith("group lab: ada\n")
    assert signed_in("quota", "remove", "lab").out == "The group lab is removed.\n"


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("ada", "--max-running", "0"), 1, "a quota is at least 1; to stop a user disable it"),
        (("ada", "--max-running", "many"), 2, "'many' is no number; write 8, or none."),
        (("ada", "--max-stored", "1X"), 2, "'1X' is no size; write 500G, or none."),
        (("ada", "--group", "lab", "--max-cores", "1"), 1, "One user, or one group"),
        ((), 1, "One user, or one group"),
        (("--group", "lab", "--weight", "2"), 1, "One user, or one group with limits only."),
        (("nobody", "--weight", "2"), 1, "There is no user 'nobody'."),
    ],
)
def test_a_quota_that_makes_no_sense(
    signed_in: Run, as_admin: Callable[[], None], arguments: tuple[str, ...], code: int, told: str
) -> None:
    as_admin()
    ended = signed_in("quota", "set", *arguments)
    assert ended.code == code
    assert told in ended.err


def test_reservations(signed_in: Run, as_admin: Callable[[], None]) -> None:
    as_admin()
    assert signed_in("reservation", "list").err == "Nothing is reserved.\n"
    assert signed_in("reservation", "set", "r", "2").out == "The last 2 free slots are kept for 'r'.\n"
    assert signed_in("reservation", "list").out.split() == ["key", "slots", "r", "2"]
    assert json.loads(signed_in("reservation", "list", "--json").out) == [{"key": "r", "slots": 2}]
    assert signed_in("reservation", "remove", "r").out == "Nothing is kept for 'r' any more.\n"
    assert signed_in("reservation", "set", "r", "0").code == 1
