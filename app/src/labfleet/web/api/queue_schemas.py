"""What goes in and comes out of the calls about order, quotas and the fleet."""

from __future__ import annotations

import uuid
from typing import Annotated, Any

from pydantic import Field

from labfleet.jobs.explain import Code
from labfleet.web.api.schemas import In, Name, Out

Limit = Annotated[int, Field(strict=True, ge=-(2**53), le=2**53)]


class QueueQuery(In):
    """How many tasks."""

    limit: Annotated[int, Field(ge=1, le=1000)] = 50


class Needed(Out):
    """What a task needs of its worker."""

    key: str
    cores: int
    memory_bytes: int
    wall_seconds: int
    tags: list[str]


class QueuePlace(Out):
    """A task in the order: the smaller `share` comes first. `place` is null where it is not certain."""

    place: int | None
    task: uuid.UUID
    job: uuid.UUID
    owner: str
    priority: int
    share: float
    needs: Needed


class Queue(Out):
    """The order as it stands, the next task first."""

    items: list[QueuePlace]
    next: None = None


class FullReason(Out):
    """Why tasks wait: a stable code, a sentence, and the figures in it."""

    code: Code
    message: str
    detail: dict[str, Any]


class WaitingTasks(Out):
    """Tasks of one job that need the same and wait for the same reason, which is the first one's."""

    lane: str
    needs: Needed
    count: int
    reason: FullReason


class JobQueue(Out):
    """What a job waits for; empty where nothing of it waits."""

    items: list[WaitingTasks]
    next: None = None


class QuotaIn(In):
    """What to change of a user's quota; null is no limit, and no group."""

    group: Name | None = None
    weight: Annotated[float, Field(ge=-1e9, le=1e9)] = 1
    max_priority: Annotated[int, Field(strict=True, ge=-1000, le=1000)] = 0
    max_running: Limit | None = None
    max_cores: Limit | None = None
    max_stored_bytes: Limit | None = None


class Quota(Out):
    """A user's part of the fleet and of the store, and what is in use; null is no limit."""

    user: str
    group: str | None
    weight: float
    max_priority: int
    max_running: int | None
    max_cores: int | None
    max_stored_bytes: int | None
    running: int
    cores: int
    stored_bytes: int


class GroupIn(In):
    """A group's quota; null is no limit."""

    max_running: Limit | None = None
    max_cores: Limit | None = None
    max_stored_bytes: Limit | None = None


class Group(Out):
    """Users that share a quota; null is no limit."""

    name: str
    max_running: int | None
    max_cores: int | None
    max_stored_bytes: int | None
    users: list[str]


class Groups(Out):
    """All groups."""

    items: list[Group]
    next: None = None


class ReservationIn(In):
    """How many slots."""

    slots: Limit


class Reservation(Out):
    """So many free slots are kept for tasks of a key."""

    key: str
    slots: int


class Reservations(Out):
    """All reservations."""

    items: list[Reservation]
    next: None = None
