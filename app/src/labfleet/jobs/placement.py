"""Where a task runs: the fleet as it is now, and what is left of it while tasks are placed.

Pure: rows and times stay with `jobs.fleet`, the order of the tasks with `jobs.order`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from labfleet.config import OrderSection
from labfleet.jobs.needs import Needs
from labfleet.jobs.order import Candidate


@dataclass(frozen=True)
class Worker:
    """A worker as it last reported, and what is placed on it.

    `taken` and `taken_cores` count what is placed there or runs there, `fresh_cores` what has been there for
    so short a time that the load average does not show it yet. `taken_long` counts those that are not short,
    `ended` those that came and ended just now.
    """

    name: str
    keys: frozenset[str]
    tags: frozenset[str]
    slots: int
    cores: int
    memory_bytes: int
    load: float
    away: bool = False
    stopping: bool = False
    draining: bool = False
    silent_seconds: float = 0
    taken: int = 0
    taken_cores: int = 0
    fresh_cores: int = 0
    taken_long: int = 0
    ended: int = 0

    @property
    def usable(self) -> bool:
        """Whether it may get new tasks."""
        return not (self.away or self.stopping or self.draining)

    @property
    def load_per_core(self) -> float:
        """What it last said of its load, for each core."""
        return self.load / max(self.cores, 1)

    def can(self, needs: Needs) -> bool:
        """Whether it has what such a task needs when it is idle."""
        return (
            needs.key in self.keys
            and self.tags.issuperset(needs.tags)
            and self.cores >= needs.cores
            and self.memory_bytes >= needs.memory_bytes
        )


class Verdict(StrEnum):
    """What the usable workers that can run a task say to it now; the first that holds."""

    ROOM = "room"
    RESERVED = "reserved"
    LOADED = "loaded"
    CORES = "cores"
    FULL = "full"


class Place:
    """What is left of a usable worker. `kept`: for a task that waits for more of its cores to be free.

    `ahead`: how many more short tasks may come when no slot is free, to wait until one is. So many as will
    begin at once: the worker has just ended as many, and has nothing else. They come when half of those
    that wait have begun, so that a fast worker does not cost the dispatcher a turn for each task.
    """

    def __init__(self, worker: Worker, most_ahead: int) -> None:
        self.worker = worker
        self.kept = False
        self.free = max(worker.slots - worker.taken, 0)
        # An admin who gives a machine more slots than cores wants it to be shared so far.
        self.free_cores = max(worker.cores, worker.slots) - worker.taken_cores
        self._load = worker.load + worker.fresh_cores
        wanted = 0 if worker.taken_long else min(most_ahead, worker.ended)
        self.ahead = max(wanted - max(worker.taken - worker.slots, 0), 0)
        if not self.free and 2 * self.ahead < wanted:
            self.ahead = 0

    @property
    def load_per_core(self) -> float:
        """How busy it is, or will be as soon as what is placed there has begun."""
        return self._load / max(self.worker.cores, 1)

    def take(self, cores: int) -> None:
        """One more task of so many cores."""
        self.free -= 1
        self.free_cores -= cores
        self._load += cores

    def take_ahead(self) -> None:
        """One more short task of one core, that waits for a slot."""
        self.ahead -= 1

    def close(self) -> None:
        """Nothing may come ahead any more."""
        self.ahead = 0


class Fleet:
    """The workers, and what is left of them while tasks are placed one after the other.

    `reservations` says how many free slots are kept for tasks of a key.
    """

    def __init__(
        self, workers: Iterable[Worker], reservations: Mapping[str, int], rules: OrderSection
    ) -> None:
        self.workers = list(workers)
        self._rules = rules
        self._places = [Place(worker, rules.ahead_per_worker) for worker in self.workers if worker.usable]
        self._reservations = {
            key: slots for key, slots in reservations.items() if any(key in w.keys for w in self.workers)
        }
        self._free_by_key = {
            key: sum(place.free for place in self._places if key in place.worker.keys)
            for key in self._reservations
        }

    @property
    def free(self) -> int:
        """How many tasks all usable workers may get: as many as slots are free, and as may come ahead."""
        return sum(place.free + place.ahead for place in self._places)

    def reserved_against(self, needs: Needs) -> dict[str, int]:
        """The reservations of other keys on workers that can run such a task."""
        keys = set().union(*(place.worker.keys for place in self._able(needs))) - {needs.key}
        return {key: slots for key, slots in sorted(self._reservations.items()) if key in keys}

    def verdict(self, needs: Needs) -> Verdict:
        """What the usable workers that can run such a task say to it now; FULL where there are none."""
        able = self._able(needs)
        if any(self._has_room_ahead(place, needs) for place in able):
            return Verdict.ROOM
        free = [place for place in able if place.free > 0]
        wide = [place for place in free if place.free_cores >= needs.cores]
        calm = [place for place in wide if self._calm(place, needs)]
        if any(not self._reserved(place, needs) for place in calm):
            return Verdict.ROOM
        for reason, places in ((Verdict.RESERVED, calm), (Verdict.LOADED, wide), (Verdict.CORES, free)):
            if places:
                return reason
        return Verdict.FULL

    def holds_back(self, needs: Needs) -> bool:
        """Whether such a task, without room now, would keep others from coming ahead of it."""
        return any(place.free == 0 and place.ahead > 0 for place in self._able(needs))

    def place(self, needs: Needs) -> str | None:
        """The worker that takes a task, the least loaded of those that can; its slot is filled then. Where
        no slot is free, a short task may get the worker at which it waits for one.

        None if it has to wait. Where only cores are missing, the worker that lacks the fewest is kept for
        the task: what comes after it in the order can't take from it, so that it gets them in the end.
        """
        able = self._able(needs)
        room = [place for place in able if self._has_room(place, needs)]
        if not room:
            return self._place_ahead(able, needs)
        chosen = min(room, key=lambda place: (place.load_per_core, -place.free, place.worker.name))
        chosen.take(needs.cores)
        if not self._short(needs):
            chosen.close()  # nothing may wait behind it
        for key in self._free_by_key.keys() & chosen.worker.keys:
            self._free_by_key[key] -= 1
        return chosen.worker.name

    def _place_ahead(self, able: list[Place], needs: Needs) -> str | None:
        room = [place for place in able if self._has_room_ahead(place, needs)]
        if not room:
            self._keep(able, needs)
            self._let_run_empty(able, needs)
            return None
        chosen = max(room, key=lambda place: (place.ahead, place.worker.name))
        chosen.take_ahead()
        return chosen.worker.name

    def _able(self, needs: Needs) -> list[Place]:
        return [place for place in self._places if place.worker.can(needs)]

    def _has_room(self, place: Place, needs: Needs) -> bool:
        return self._has_slot(place, needs) and place.free_cores >= needs.cores

    def _has_slot(self, place: Place, needs: Needs) -> bool:
        return (
            place.free > 0
            and not place.kept
            and self._calm(place, needs)
            and not self._reserved(place, needs)
        )

    def _has_room_ahead(self, place: Place, needs: Needs) -> bool:
        # With one core it needs no more than whatever it comes after, so slots are all that is to be counted.
        return (
            place.free == 0
            and place.ahead > 0
            and needs.cores == 1
            and self._short(needs)
            and not place.kept
            and self._calm(place, needs)
            and not self._reserved(place, needs)
        )

    def _short(self, needs: Needs) -> bool:
        return needs.wall_seconds <= self._rules.short_seconds

    def _calm(self, place: Place, needs: Needs) -> bool:
        passes = self._rules.short_tasks_pass_load and self._short(needs)
        return passes or place.worker.load_per_core < self._rules.max_load_per_core

    def _reserved(self, place: Place, needs: Needs) -> bool:
        return any(
            self._free_by_key[key] <= kept
            for key, kept in self._reservations.items()
            if key != needs.key and key in place.worker.keys
        )

    def _let_run_empty(self, able: list[Place], needs: Needs) -> None:
        # What comes after it in the order must not take the slots that it waits for.
        for place in able:
            if place.free == 0 and self._calm(place, needs) and not self._reserved(place, needs):
                place.close()

    def _keep(self, able: list[Place], needs: Needs) -> None:
        narrow = [place for place in able if self._has_slot(place, needs)]
        if narrow:
            max(narrow, key=lambda place: (place.free_cores, place.worker.name)).kept = True


def assign(
    fleet: Fleet, candidates: Iterable[Candidate], needs: Mapping[str, Needs], limit: int
) -> list[tuple[Candidate, str]]:
    """Place candidates in their order, `limit` at most; each that got a worker, with that worker's name.

    It ends with a task after which others of its owner were not read: they may come before the next one here.
    """
    placed: list[tuple[Candidate, str]] = []
    closed: set[str] = set()  # what one task of a lane can't have, no other of it can
    for candidate in candidates:
        if candidate.lane in closed:
            continue
        worker = fleet.place(needs[candidate.lane])
        if worker is None:
            closed.add(candidate.lane)
            continue
        placed.append((candidate, worker))
        if candidate.more or len(placed) == limit:
            break
    return placed
