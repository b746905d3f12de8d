"""Why a task waits: one reason for each, with a stable code and a sentence that a scientist understands.

The reasons stand on what the dispatcher decides by, `jobs.order` and `jobs.placement`, so they can't differ.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from itertools import islice
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from labfleet.config import OrderSection
from labfleet.db.models import Task, User, WorkerRow
from labfleet.jobs import fleet as fleets
from labfleet.jobs import order, quotas, transition
from labfleet.jobs.needs import Needs
from labfleet.jobs.order import Candidate
from labfleet.jobs.placement import Fleet, Verdict, Worker, assign
from labfleet.jobs.quotas import Allowance
from labfleet.jobs.states import State
from labfleet.jobs.visible import read_job
from labfleet.names import IMAGES_TAG

# However many owners wait, so many rows are read for the order at most; the places told are fewer then.
_MAX_ROWS = 5000
_NAMES_SHOWN = 5
_OF_OTHERS = "Something of its owner's account keeps it from beginning."


class Code(StrEnum):
    """Why a task waits. Programs may rely on these."""

    HELD = "held"
    WAITS_FOR_EARLIER_TASKS = "waits_for_earlier_tasks"
    NOT_BEFORE = "not_before"
    PLACED = "placed"
    NO_SUCH_WORKER = "no_such_worker"
    WORKERS_AWAY = "workers_away"
    DRAINING = "draining"
    OWNER_DISABLED = "owner_disabled"
    QUOTA_RUNNING = "quota_running"
    QUOTA_CORES = "quota_cores"
    RESERVED = "reserved"
    WORKERS_LOADED = "workers_loaded"
    WORKERS_FULL = "workers_full"
    BEHIND_OTHERS = "behind_others"
    NEXT = "next"


_OF_OWNER = frozenset({Code.OWNER_DISABLED, Code.QUOTA_RUNNING, Code.QUOTA_CORES})


@dataclass(frozen=True)
class Reason:
    """A code, the sentence, and the figures that are in it."""

    code: Code
    message: str
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Waiting:
    """Tasks of one job and lane that wait for the same reason; `needs` is what each of them needs."""

    lane: str
    needs: Needs
    count: int
    reason: Reason


@dataclass(frozen=True)
class Place:
    """A task in the order. `place` is None where it is not known for certain."""

    place: int | None
    task_id: uuid.UUID
    job_id: uuid.UUID
    owner: str
    priority: int
    share: float
    needs: Needs


def queue(session: Session, viewer: User, limit: int) -> list[Place]:
    """The order as it stands: the first `limit` tasks that the viewer may see, in their places among all."""
    pairs = order.waiting(session)
    needs = {pair.lane: pair.needs for pair in pairs}
    candidates = order.ordered(session, pairs, _depth(limit, len(pairs)))
    certain = len(_certain(candidates))
    names = _names_of(session, {candidate.owner_id for candidate in candidates})
    places = (
        Place(
            place=nth if nth <= certain else None,
            task_id=candidate.id,
            job_id=candidate.job_id,
            owner=names[candidate.owner_id],
            priority=candidate.priority,
            share=candidate.share,
            needs=needs[candidate.lane],
        )
        for nth, candidate in enumerate(candidates, 1)
        if viewer.is_admin or candidate.owner_id == viewer.id
    )
    return list(islice(places, limit))


def _names_of(session: Session, owners: Collection[uuid.UUID]) -> dict[uuid.UUID, str]:
    return {
        row.id: row.name for row in session.execute(select(User.id, User.name).where(User.id.in_(owners)))
    }


def _depth(wanted: int, pairs: int) -> int:
    """How many tasks of each owner in each lane are read for so many places."""
    return max(min(wanted, _MAX_ROWS // max(pairs, 1)), 2)


def reasons(
    session: Session, viewer: User, tasks: Iterable[Task], rules: OrderSection
) -> dict[uuid.UUID, Reason]:
    """Why each of the tasks that are queued waits. Few statements, however many tasks are asked for.

    What it is with its owner's quotas and account is for the owner, and an admin.
    """
    queued = [task for task in tasks if task.state == State.QUEUED]
    if not queued:
        return {}
    now = transition.now(session)
    found = {task.id: reason for task in queued if (reason := _of_its_own(task, now))}
    others = [task for task in queued if task.id not in found]
    if others:
        view = _View(session, rules, {task.owner_id for task in others})
        found |= {task.id: _told_to(viewer, task, view.reason(task)) for task in others}
    return found


def waiting_of_job(session: Session, viewer: User, job_id: uuid.UUID, rules: OrderSection) -> list[Waiting]:
    """What the job waits for, lane by lane, in the order of submission; empty where nothing waits.

    Raises `NotFound` if the job isn't for the viewer.
    """
    read_job(session, viewer, job_id)
    groups = session.execute(
        select(func.count(), func.min(Task.sequence))
        .where(Task.job_id == job_id, Task.state == State.QUEUED)
        .group_by(
            Task.lane,
            Task.held,
            Task.ready,
            Task.placed_on.is_(None),
            Task.not_before > func.clock_timestamp(),
        )
        .order_by(func.min(Task.sequence))
    ).all()
    counts = {first: count for count, first in groups}
    firsts = session.scalars(
        select(Task).where(Task.job_id == job_id, Task.sequence.in_(counts)).order_by(Task.sequence)
    ).all()
    known = reasons(session, viewer, firsts, rules)
    return [
        Waiting(task.lane, needs_of(task), counts[task.sequence], known[task.id])
        for task in firsts
        if task.id in known  # it may have begun meanwhile
    ]


def able(session: Session, needs: Needs) -> Sequence[WorkerRow]:
    """The workers, away or not, that have what such a task needs."""
    statement = select(WorkerRow).where(
        WorkerRow.keys.contains([needs.key]),
        WorkerRow.tags.contains(list(needs.tags)),
        WorkerRow.cores >= needs.cores,
        WorkerRow.memory_total >= needs.memory_bytes,
    )
    return session.scalars(statement.order_by(WorkerRow.name)).all()


def needs_of(task: Task) -> Needs:
    """What the task's row says that it needs."""
    return Needs(task.key, task.cores, task.memory_bytes, task.wall_seconds, tuple(task.tags))


def _told_to(viewer: User, task: Task, reason: Reason) -> Reason:
    if viewer.is_admin or task.owner_id == viewer.id or reason.code not in _OF_OWNER:
        return reason
    return Reason(reason.code, _OF_OTHERS)


def _of_its_own(task: Task, now: datetime) -> Reason | None:
    """The reason that lies in the task itself and not in the fleet."""
    if task.held:
        return Reason(Code.HELD, "It is held; releasing it lets it run.")
    if not task.ready:
        return Reason(Code.WAITS_FOR_EARLIER_TASKS, "It waits for tasks that come before it in its job.")
    if task.placed_on is not None:
        text = f"It has been given to the worker {task.placed_on} and is about to start."
        return Reason(Code.PLACED, text, {"worker": task.placed_on})
    if task.not_before is not None and task.not_before > now:
        time = task.not_before.isoformat()
        text = f"It is tried again after a pause, not before {task.not_before:%Y-%m-%d %H:%M:%S} UTC."
        return Reason(Code.NOT_BEFORE, text, {"not_before": time})
    return None


class _View:
    """The fleet, the order and the owners' quotas as they are at one moment."""

    def __init__(self, session: Session, rules: OrderSection, owners: Collection[uuid.UUID]) -> None:
        self._rules = rules
        self._fleet = fleets.load(session, rules)
        self._allowances = quotas.allowances(session, owners)
        pairs = [pair for pair in order.waiting(session) if _usable(self._fleet, pair.needs)]
        self._workers = {pair.lane: _usable(self._fleet, pair.needs) for pair in pairs}
        candidates = order.ordered(session, pairs, _depth(rules.explain_depth, len(pairs)))
        self._queue = _certain(candidates)[: rules.explain_depth]
        needs = {pair.lane: pair.needs for pair in pairs}
        placed = assign(deepcopy(self._fleet), self._queue, needs, len(self._queue))
        self._next = {candidate.id for candidate, _ in placed}

    def reason(self, task: Task) -> Reason:
        needs = needs_of(task)
        return (
            _missing(self._fleet, needs)
            or _absent(self._fleet, needs)
            or _not_allowed(self._allowances[task.owner_id], needs)
            or self._in_turn(task, needs)
        )

    def _in_turn(self, task: Task, needs: Needs) -> Reason:
        verdict = self._fleet.verdict(needs)
        able = [worker for worker in self._fleet.workers if worker.name in _usable(self._fleet, needs)]
        if verdict is Verdict.LOADED:
            return _loaded(able, self._rules)
        if verdict is Verdict.RESERVED:
            return _reserved(self._fleet, needs)
        before, known = self._before(task, {worker.name for worker in able})
        if task.id in self._next:
            return Reason(Code.NEXT, "It is placed on a worker within seconds.", {"before": before})
        if before == 0 and known:
            return _full(able, needs, verdict)
        return _behind(before, known)

    def _before(self, task: Task, workers: set[str]) -> tuple[int, bool]:
        """How many tasks come before it on the same workers, and whether that is all of them."""
        before = 0
        for candidate in self._queue:
            if candidate.id == task.id:
                return before, True
            before += not workers.isdisjoint(self._workers[candidate.lane])
        return before, False


def _usable(fleet: Fleet, needs: Needs) -> set[str]:
    return {worker.name for worker in fleet.workers if worker.usable and worker.can(needs)}


def _certain(queue: Sequence[Candidate]) -> Sequence[Candidate]:
    """The order as far as it is known: up to the first task after which others were not read."""
    for index, candidate in enumerate(queue):
        if candidate.more:
            return queue[: index + 1]
    return queue


def _missing(fleet: Fleet, needs: Needs) -> Reason | None:
    """That no worker ever could, and what they lack."""
    if any(worker.can(needs) for worker in fleet.workers):
        return None
    serving = [worker for worker in fleet.workers if needs.key in worker.keys]
    if not serving:
        keys = sorted(set().union(*(worker.keys for worker in fleet.workers)))
        text = f"No worker serves the key '{needs.key}'; served are: {', '.join(keys) or 'none'}."
        return _no_worker(text, "key", key=needs.key)
    tagged = [worker for worker in serving if worker.tags.issuperset(needs.tags)]
    if not tagged:
        text = f"No worker that serves '{needs.key}' has the tags {', '.join(needs.tags)}."
        if IMAGES_TAG in needs.tags and not any(IMAGES_TAG in worker.tags for worker in serving):
            text = (
                f"No worker that serves '{needs.key}' runs container images. Ask your admin (worker_images)."
            )
        return _no_worker(text, "tags", tags=list(needs.tags))
    whose = f"{' that serves' if not needs.tags else ' with these tags that serves'} '{needs.key}'"
    if (most := max(worker.cores for worker in tagged)) < needs.cores:
        text = f"It needs {needs.cores} cores; the largest worker{whose} has {most}."
        return _no_worker(text, "cores", cores=needs.cores, most=most)
    if (most := max(worker.memory_bytes for worker in tagged)) < needs.memory_bytes:
        text = f"It needs {_size(needs.memory_bytes)} of memory; the largest worker{whose} has {_size(most)}."
        return _no_worker(text, "memory", memory_bytes=needs.memory_bytes, most=most)
    text = f"No one worker{whose} has both {needs.cores} cores and {_size(needs.memory_bytes)} of memory."
    return _no_worker(text, "together", cores=needs.cores, memory_bytes=needs.memory_bytes)


def _no_worker(text: str, missing: str, **figures: Any) -> Reason:
    return Reason(Code.NO_SUCH_WORKER, text, {"missing": missing, **figures})


def _absent(fleet: Fleet, needs: Needs) -> Reason | None:
    """That the workers that could are all away, or take nothing new."""
    able = [worker for worker in fleet.workers if worker.can(needs)]
    if any(worker.usable for worker in able):
        return None
    drained = [worker.name for worker in able if worker.draining and not worker.away]
    if drained:
        text = f"An admin lets the workers that can run it take nothing new: {_names(drained)}."
        return Reason(Code.DRAINING, text, {"workers": drained})
    told = [
        f"{w.name} ({'is stopping' if not w.away else f'silent for {w.silent_seconds:.0f} s'})" for w in able
    ]
    text = f"The workers that can run it are away: {_names(told)}."
    return Reason(Code.WORKERS_AWAY, text, {"workers": [worker.name for worker in able]})


def _not_allowed(allowance: Allowance, needs: Needs) -> Reason | None:
    """That a quota is used up."""
    if allowance.disabled:
        return Reason(Code.OWNER_DISABLED, f"The account {allowance.user.name} is disabled.")
    for kind, side in allowance.sides:
        detail = {kind: side.name, "running": side.running, "cores": side.cores}
        if side.max_running is not None and side.running >= side.max_running:
            text = (
                f"The {kind} {side.name} has {side.running} tasks on workers; "
                f"the quota is {side.max_running}."
            )
            return Reason(Code.QUOTA_RUNNING, text, {**detail, "quota": side.max_running})
        if side.max_cores is not None and side.cores + needs.cores > side.max_cores:
            text = (
                f"The {kind} {side.name} has tasks with {side.cores} cores on workers and this needs "
                f"{needs.cores}; the quota is {side.max_cores}."
            )
            return Reason(Code.QUOTA_CORES, text, {**detail, "quota": side.max_cores})
    return None


def _loaded(able: Sequence[Worker], rules: OrderSection) -> Reason:
    loads = {worker.name: round(worker.load_per_core, 2) for worker in able}
    told = _names([f"{name} has {load} per core" for name, load in loads.items()])
    text = (
        f"The workers that can run it have too much load: {told}; the limit is {rules.max_load_per_core:g}."
    )
    return Reason(Code.WORKERS_LOADED, text, {"load_per_core": loads, "limit": rules.max_load_per_core})


def _reserved(fleet: Fleet, needs: Needs) -> Reason:
    kept = fleet.reserved_against(needs)
    told = ", ".join(f"{slots} for '{key}'" for key, slots in kept.items())
    text = f"The slots that are free are kept for tasks of other keys: {told}."
    return Reason(Code.RESERVED, text, {"reserved": kept})


def _full(able: Sequence[Worker], needs: Needs, verdict: Verdict) -> Reason:
    slots = sum(worker.slots for worker in able)
    names = [worker.name for worker in able]
    if verdict is Verdict.CORES:
        text = f"No worker that can run it has {needs.cores} cores free now; it is first in line."
    else:
        text = f"All {slots} slots of the workers that can run it are taken; it is first in line."
    return Reason(Code.WORKERS_FULL, text, {"slots": slots, "workers": names})


def _behind(before: int, known: bool) -> Reason:
    if known:
        tasks = "1 task comes" if before == 1 else f"{before} tasks come"
        return Reason(Code.BEHIND_OTHERS, f"{tasks} before it.", {"place": before + 1, "before": before})
    tasks = "Others come" if before == 0 else f"More than {before} tasks come"
    return Reason(Code.BEHIND_OTHERS, f"{tasks} before it.", {"place": None, "before": before})


def _names(names: Sequence[str]) -> str:
    more = len(names) - _NAMES_SHOWN
    return ", ".join(names[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _size(size: int) -> str:
    return f"{size / 1024**3:.1f} GiB" if size >= 1024**3 else f"{size / 1024**2:.0f} MiB"
