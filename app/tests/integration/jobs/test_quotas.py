from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import event, select, update
from sqlalchemy.orm import Session, sessionmaker

from labfleet.db.models import Artifact, Attempt, Blob, Task, User
from labfleet.errors import Invalid, NotFound, QuotaExceeded
from labfleet.jobs import quotas

Sessions = sessionmaker[Session]


@pytest.fixture
def artifact(sessions: Sessions) -> Callable[[uuid.UUID, int], None]:
    """Give a task an artifact of so many bytes."""

    def artifact(task_id: uuid.UUID, size: int) -> None:
        sha = uuid.uuid4().hex * 2
        with sessions.begin() as session:
            session.add(Blob(sha256=sha, size=size))
            session.add(Attempt(task_id=task_id, number=1, worker="w1", claim_id="c"))
            session.flush()
            session.add(
                Artifact(
                    task_id=task_id, attempt=1, name="a", kind="text", media_type="x", sha256=sha, size=size
                )
            )

    return artifact


def check(sessions: Sessions, user: User, more: int) -> None:
    with sessions() as session:
        quotas.check_storage(session, session.get_one(User, user.id), more)


def set_user(sessions: Sessions, name: str, **changes: Any) -> None:
    with sessions.begin() as session:
        quotas.set_user(session, name, changes)


def test_datasets_and_results_count_against_a_user_s_bytes(
    sessions: Sessions, user: User, make_dataset: Any, make_tasks: Any, artifact: Any
) -> None:
    make_dataset(user)
    make_dataset(user)
    artifact(make_tasks(user)[0], 94)
    check(sessions, user, 10**15)
    set_user(sessions, "ada", max_stored_bytes=110)
    check(sessions, user, 10)
    with sessions() as session:
        assert quotas.room(session, session.get_one(User, user.id)) == 10
    with pytest.raises(QuotaExceeded, match=r"You have 100 of 110 bytes in .* 11 more don't fit"):
        check(sessions, user, 11)
    set_user(sessions, "ada", max_stored_bytes=None)
    check(sessions, user, 11)


def test_a_group_s_members_share_its_bytes(
    sessions: Sessions, user: User, make_user: Callable[..., User], make_dataset: Any
) -> None:
    bob = make_user("bob")
    for owner in (user, bob, make_user("eve")):
        make_dataset(owner)
    with sessions.begin() as session:
        quotas.put_group(session, "lab", {"max_stored_bytes": 10})
    for name in ("ada", "bob"):
        set_user(sessions, name, group="lab")
    check(sessions, user, 4)
    with pytest.raises(QuotaExceeded, match="The group 'lab' has 6 of 10 bytes"):
        check(sessions, bob, 5)


def test_without_a_limit_nothing_is_summed_up(sessions: Sessions, user: User) -> None:
    statements: list[str] = []

    def count(*arguments: Any) -> None:
        statements.append(arguments[2])

    with sessions() as session:
        owner = session.get_one(User, user.id)
        event.listen(session.get_bind(), "before_cursor_execute", count)
        quotas.check_storage(session, owner, 1)
        event.remove(session.get_bind(), "before_cursor_execute", count)
    assert statements == []


@pytest.mark.parametrize("name", ["max_running", "max_cores", "max_stored_bytes"])
@pytest.mark.parametrize("value", [0, -1])
def test_a_quota_is_at_least_one(sessions: Sessions, user: User, name: str, value: int) -> None:
    with pytest.raises(Invalid, match="a quota is at least 1; to stop a user disable it"):
        set_user(sessions, user.name, **{name: value})
    with sessions() as session, pytest.raises(Invalid, match="a quota is at least 1"):
        quotas.put_group(session, "lab", {name: value})


@pytest.mark.parametrize("weight", [0, -0.5, float("nan")])
def test_a_weight_is_above_zero(sessions: Sessions, user: User, weight: float) -> None:
    with pytest.raises(Invalid, match="weight: it is above 0"):
        set_user(sessions, user.name, weight=weight)


def test_only_what_is_named_changes(sessions: Sessions, user: User) -> None:
    set_user(sessions, "ada", max_running=5, weight=2.5)
    set_user(sessions, "ada", max_cores=7, max_priority=3)
    with sessions() as session:
        found = session.get_one(User, user.id)
        assert (found.max_running, found.max_cores, found.weight, found.max_priority) == (5, 7, 2.5, 3)


def test_who_does_not_exist_is_told(sessions: Sessions, user: User) -> None:
    with pytest.raises(NotFound, match="There is no user 'bob'"):
        set_user(sessions, "bob", weight=1)
    with pytest.raises(NotFound, match="There is no group 'lab'"):
        set_user(sessions, "ada", group="lab")
    with sessions() as session, pytest.raises(NotFound, match="There is no group 'lab'"):
        quotas.delete_group(session, "lab")


def test_a_group_comes_and_goes_and_its_users_stay(sessions: Sessions, user: User) -> None:
    with sessions.begin() as session:
        quotas.put_group(session, "lab", {"max_running": 2, "max_cores": None})
        quotas.put_group(session, "lab", {"max_cores": 9})
        quotas.put_group(session, "zoo", {})
    set_user(sessions, "ada", group="lab")
    with sessions.begin() as session:
        groups = quotas.list_groups(session)
        assert [(g.name, g.max_running, g.max_cores) for g in groups] == [("lab", 2, 9), ("zoo", None, None)]
        quotas.delete_group(session, "lab")
    with sessions() as session:
        assert session.get_one(User, user.id).group_name is None


@pytest.mark.parametrize("name", ["", "a b", "-a", "a/b", "x" * 101])
def test_a_group_s_name_is_a_plain_word(sessions: Sessions, name: str) -> None:
    with sessions() as session, pytest.raises(Invalid, match="no name of a group"):
        quotas.put_group(session, name, {})


def test_what_counts_is_what_is_on_the_workers(
    sessions: Sessions, user: User, make_user: Callable[..., User], make_tasks: Any
) -> None:
    bob = make_user("bob")
    placed = [*make_tasks(user, 3, cores=2), *make_tasks(bob, 1)]
    with sessions.begin() as session:
        quotas.put_group(session, "lab", {"max_running": 9})
        session.execute(update(User).values(group_name="lab"))
        session.execute(update(Task).where(Task.id.in_(placed[1:])).values(placed_on="w1"))
        session.execute(update(Task).where(Task.id == placed[1]).values(state="success"))
    with sessions() as session:
        found = quotas.allowances(session, [user.id])[user.id]
        assert session.scalars(select(User.name)).all() == ["ada", "bob"]
    assert (found.user.running, found.user.cores, found.disabled) == (1, 2, False)
    assert found.group is not None
    assert (found.group.name, found.group.running, found.group.cores) == ("lab", 2, 3)
