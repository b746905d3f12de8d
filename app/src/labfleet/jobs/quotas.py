"""Quotas: what a user and a group may have at a time, and what they have.

`jobs.order` keeps to `max_running` and `max_cores` when it decides who comes next; stored bytes are checked
before something is stored. None is no limit. No function commits; its caller does.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, cast, func, or_, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from labfleet.db.models import Artifact, Dataset, Group, Job, Protocol, Task, User
from labfleet.errors import Invalid, NotFound, QuotaExceeded
from labfleet.jobs import outbox
from labfleet.jobs.order import TAKEN
from labfleet.users import audit
from labfleet.users.audit import Action
from labfleet.users.service import get_user

LIMITS = ("max_running", "max_cores", "max_stored_bytes")
_GROUP = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class Side:
    """A user, or a group, with what is placed or runs for it and how much that may be."""

    name: str
    running: int
    cores: int
    max_running: int | None
    max_cores: int | None


@dataclass(frozen=True)
class Allowance:
    """What counts for a user's tasks: his own quota, and that of his group where he has one."""

    user: Side
    group: Side | None
    disabled: bool

    @property
    def sides(self) -> list[tuple[str, Side]]:
        """Who may stop a task, and what they are."""
        return [("user", self.user), *([("group", self.group)] if self.group else [])]


def allowances(session: Session, owners: Iterable[uuid.UUID]) -> dict[uuid.UUID, Allowance]:
    """The allowance of each of these users."""
    wanted = set(owners)
    has = _taken_by_owner(session)
    users = session.scalars(select(User).where(or_(User.id.in_(wanted), User.id.in_(has)))).all()
    names = {user.group_name for user in users if user.id in wanted and user.group_name}
    groups = {group.name: group for group in session.scalars(select(Group).where(Group.name.in_(names)))}
    sides = {name: _side(name, group, _sum(users, has, name)) for name, group in groups.items()}
    return {
        user.id: Allowance(
            user=_side(user.name, user, has.get(user.id, (0, 0))),
            group=sides.get(user.group_name or ""),
            disabled=user.disabled_at is not None,
        )
        for user in users
        if user.id in wanted
    }


def _taken_by_owner(session: Session) -> dict[uuid.UUID, tuple[int, int]]:
    cores = cast(func.sum(Task.cores), BigInteger)
    statement = select(Task.owner_id, func.count(), cores).where(text(TAKEN)).group_by(Task.owner_id)
    return {owner: (tasks, cores) for owner, tasks, cores in session.execute(statement)}


def _sum(users: Iterable[User], has: Mapping[uuid.UUID, tuple[int, int]], group: str) -> tuple[int, int]:
    parts = [has.get(user.id, (0, 0)) for user in users if user.group_name == group]
    return sum(tasks for tasks, _ in parts), sum(cores for _, cores in parts)


def _side(name: str, quota: User | Group, has: tuple[int, int]) -> Side:
    return Side(name, has[0], has[1], quota.max_running, quota.max_cores)


def check_storage(session: Session, user: User, more_bytes: int) -> None:
    """Raise `QuotaExceeded` if the user or his group may not store so many bytes more."""
    for who, stored, limit in _storage(session, user):
        if stored + more_bytes > limit:
            raise QuotaExceeded(
                f"{who} {stored} of {limit} bytes in datasets, results and protocols; "
                f"{more_bytes} more don't fit.",
                quota="stored_bytes",
                stored=stored,
                limit=limit,
            )


def claim_storage(session: Session, user: User, more_bytes: int) -> None:
    """`check_storage` for what this transaction is about to add; who else adds something waits for its end.

    So two uploads at once can't both take the room that there is for one.
    """
    lock: dict[str, Any] = {"with_for_update": {"key_share": True}, "populate_existing": True}
    owner = session.get_one(User, user.id, **lock)
    if owner.group_name:
        session.get_one(Group, owner.group_name, **lock)
    check_storage(session, owner, more_bytes)


def room(session: Session, user: User) -> int | None:
    """How many bytes more the user may store; None where there is no quota."""
    left = [max(limit - stored, 0) for _, stored, limit in _storage(session, user)]
    return min(left, default=None)


def _storage(session: Session, user: User) -> Iterator[tuple[str, int, int]]:
    """Whose quota there is, what is stored and what may be; nothing is summed up without a quota."""
    if user.max_stored_bytes is not None:
        yield "You have", stored_bytes(session, user.id), user.max_stored_bytes
    group = session.get(Group, user.group_name) if user.group_name else None
    if group is not None and group.max_stored_bytes is not None:
        users = select(User.id).where(User.group_name == group.name)
        stored = stored_bytes(session, *session.scalars(users))
        yield f"The group '{group.name}' has", stored, group.max_stored_bytes


def stored_bytes(session: Session, *owners: uuid.UUID) -> int:
    """What these users' datasets, artifacts and protocols add up to; a content that two have counts twice."""
    datasets = select(func.sum(Dataset.size)).where(Dataset.owner_id.in_(owners))
    artifacts = (
        select(func.sum(Artifact.size))
        .join(Task, Task.id == Artifact.task_id)
        .join(Job, Job.id == Task.job_id)
        .where(Job.owner_id.in_(owners))
    )
    protocols = select(func.sum(Protocol.stored_bytes)).where(Protocol.owner_id.in_(owners))
    return sum(int(session.scalar(part) or 0) for part in (datasets, artifacts, protocols))


def set_user(session: Session, name: str, changes: Mapping[str, Any]) -> User:
    """Change what is named of `group`, `weight`, `max_priority` and the limits; the user.

    Raises `NotFound` for an unknown user or group, `Invalid` for a number that makes no sense.
    """
    user = get_user(session, name)
    _check(changes)
    if changes.get("group") is not None:
        get_group(session, changes["group"])
    for key, value in changes.items():
        setattr(user, "group_name" if key == "group" else key, value)
    audit.record(session, Action.QUOTA_CHANGED, name, **changes)
    session.flush()
    outbox.wake(session)
    return user


def get_group(session: Session, name: str) -> Group:
    """The group of this name; `NotFound` otherwise."""
    group = session.get(Group, name, populate_existing=True)
    if group is None:
        raise NotFound(f"There is no group '{name}'.", hint="'labfleet quota set --group NAME' makes one.")
    return group


def list_groups(session: Session) -> list[Group]:
    """All groups, by name."""
    return list(session.scalars(select(Group).order_by(Group.name)))


def members(session: Session, name: str) -> list[str]:
    """The names of the group's users."""
    return list(session.scalars(select(User.name).where(User.group_name == name).order_by(User.name)))


def put_group(session: Session, name: str, limits: Mapping[str, int | None]) -> Group:
    """Make the group, or change the limits that are named; `Invalid` for what can't be."""
    if not _GROUP.fullmatch(name):
        raise Invalid(f"'{name}' is no name of a group: letters, digits, '.', '_' and '-', 100 at most.")
    _check(limits)
    session.execute(insert(Group).values(name=name).on_conflict_do_nothing())
    group = get_group(session, name)
    for key, value in limits.items():
        setattr(group, key, value)
    audit.record(session, Action.GROUP_CHANGED, name, **limits)
    session.flush()
    outbox.wake(session)
    return group


def delete_group(session: Session, name: str) -> None:
    """Forget the group; its users stay, without one. `NotFound` if there is none."""
    session.delete(get_group(session, name))
    audit.record(session, Action.GROUP_DELETED, name)
    session.flush()
    outbox.wake(session)


def _check(changes: Mapping[str, Any]) -> None:
    for key in LIMITS:
        value = changes.get(key)
        if value is not None and value < 1:
            raise Invalid(
                f"{key}: a quota is at least 1; to stop a user disable it.",
                hint="Give a number from 1 on, or null for no limit.",
            )
    if "weight" in changes and not changes["weight"] > 0:
        raise Invalid(
            "weight: it is above 0; to stop a user disable it.",
            hint="Give 1 for an ordinary share, 2 for a double one.",
        )
