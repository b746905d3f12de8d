from __future__ import annotations

import uuid
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labfleet.config import OrderSection
from labfleet.jobs.needs import Needs
from labfleet.jobs.order import Candidate
from labfleet.jobs.placement import Fleet, Verdict, Worker, assign

GIB = 1024**3
WORKER = Worker("w1", frozenset({"python"}), frozenset(), slots=2, cores=2, memory_bytes=4 * GIB, load=0)
NEEDS = Needs("python", 1, GIB, 600)
SHORT = Needs("python", 1, GIB, 60)
RULES = OrderSection()


def worker(name: str, **other: Any) -> Worker:
    return replace(WORKER, name=name, **other)


def fleet(*workers: Worker, reserved: dict[str, int] | None = None, **rules: Any) -> Fleet:
    return Fleet(workers, reserved or {}, OrderSection(**rules))


def places(fleet: Fleet, needs: Needs, count: int) -> list[str | None]:
    return [fleet.place(needs) for _ in range(count)]


@pytest.mark.parametrize(
    "lacking",
    [
        {"keys": frozenset({"r"})},
        {"memory_bytes": GIB - 1},
        {"cores": 0},
        {"away": True},
        {"stopping": True},
        {"draining": True},
        {"taken": 2, "taken_cores": 2},
        {"slots": 0},
    ],
)
def test_a_worker_that_lacks_something_gets_no_task(lacking: dict[str, Any]) -> None:
    assert fleet(worker("w1", **lacking)).place(NEEDS) is None
    assert fleet(worker("w1", **lacking), worker("w2")).place(NEEDS) == "w2"


def test_all_tags_are_needed() -> None:
    needs = replace(NEEDS, tags=("avx2", "gpu"))
    some, every = worker("w1", tags=frozenset({"gpu"})), worker("w2", tags=frozenset({"avx2", "gpu", "x"}))
    assert fleet(some).place(needs) is None
    assert places(fleet(some, every), needs, 3) == ["w2", "w2", None]


def test_a_worker_is_filled_to_its_slots() -> None:
    assert places(fleet(WORKER), NEEDS, 3) == ["w1", "w1", None]
    assert places(fleet(WORKER), SHORT, 3) == ["w1", "w1", None]


class TestAhead:
    def test_as_many_short_tasks_wait_at_a_worker_as_it_has_just_ended(self) -> None:
        assert places(fleet(worker("w1", ended=3)), SHORT, 6) == ["w1"] * 5 + [None]
        assert places(fleet(worker("w1", ended=3, taken=2)), SHORT, 4) == ["w1"] * 3 + [None]
        assert places(fleet(worker("w1", ended=99), ahead_per_worker=4), SHORT, 7) == ["w1"] * 6 + [None]
        assert places(fleet(worker("w1", ended=99), ahead_per_worker=0), SHORT, 3) == ["w1", "w1", None]

    def test_more_come_when_half_of_them_have_begun(self) -> None:
        assert fleet(worker("w1", ended=4, taken=5)).free == 0
        assert fleet(worker("w1", ended=4, taken=4)).free == 2
        assert fleet(worker("w1", ended=4, taken=1)).free == 5  # a slot is free: as many as may come

    @pytest.mark.parametrize("needs", [NEEDS, replace(NEEDS, cores=2, wall_seconds=60)])
    def test_no_other_task_waits_at_a_worker(self, needs: Needs) -> None:
        full = worker("w1", ended=4, taken=2, taken_cores=2)
        assert fleet(full).place(needs) is None
        assert fleet(full).verdict(needs) is Verdict.FULL
        assert fleet(full).verdict(SHORT) is Verdict.ROOM

    def test_nothing_waits_behind_a_long_task(self) -> None:
        assert places(fleet(worker("w1", ended=4, taken_long=1, taken=1)), SHORT, 2) == ["w1", None]
        busy = fleet(worker("w1", ended=4, taken=1))
        assert busy.place(NEEDS) == "w1"
        assert busy.place(SHORT) is None

    def test_what_comes_before_them_in_the_order_gets_the_slot_that_it_waits_for(self) -> None:
        busy = fleet(worker("w1", ended=4, taken=2, taken_cores=2))
        assert busy.holds_back(NEEDS)
        assert not busy.holds_back(replace(NEEDS, key="r"))
        assert busy.place(NEEDS) is None
        assert busy.place(SHORT) is None

    def test_a_free_slot_comes_first(self) -> None:
        busy = worker("w1", ended=8, taken=2)
        assert places(fleet(busy, worker("w2")), SHORT, 4) == ["w2", "w2", "w1", "w1"]

    def test_reserved_slots_are_not_taken_ahead(self) -> None:
        other = replace(SHORT, key="r")
        both = worker("w1", keys=frozenset({"python", "r"}), ended=8, taken=2)
        assert fleet(both, reserved={"r": 1}).place(SHORT) is None
        assert fleet(both, reserved={"r": 1}).place(other) == "w1"


def test_slots_beyond_the_cores_are_the_admins_wish() -> None:
    assert places(fleet(worker("w1", slots=3, cores=1)), NEEDS, 4) == ["w1", "w1", "w1", None]


def test_the_least_loaded_comes_first_and_what_was_just_placed_counts() -> None:
    busy, idle = worker("w1", slots=8, cores=8, load=2), worker("w2", slots=8, cores=8)
    assert places(fleet(busy, idle), NEEDS, 6) == ["w2", "w2", "w1", "w2", "w1", "w2"]
    # What the load average does not show yet.
    assert fleet(worker("w1", taken=1, taken_cores=1, fresh_cores=1), worker("w2")).place(NEEDS) == "w2"
    # Per core: half of eight is more room than a quarter of one.
    assert fleet(worker("w1", cores=1, load=0.75), worker("w2", cores=8, load=4)).place(NEEDS) == "w2"


def test_a_loaded_worker_takes_only_short_tasks() -> None:
    loaded = worker("w1", load=8)
    short = replace(NEEDS, wall_seconds=60)
    assert fleet(loaded).place(NEEDS) is None
    assert fleet(loaded).verdict(NEEDS) is Verdict.LOADED
    assert fleet(loaded, max_load_per_core=4.01).place(NEEDS) == "w1"
    assert fleet(loaded).place(short) == "w1"
    assert fleet(loaded, short_seconds=59).place(short) is None
    assert fleet(loaded, short_tasks_pass_load=False).place(short) is None


def test_the_last_free_slots_are_kept_for_a_key() -> None:
    both = worker("w1", keys=frozenset({"python", "r"}), slots=3, cores=3)
    kept = fleet(both, reserved={"r": 2})
    assert places(kept, NEEDS, 2) == ["w1", None]
    assert kept.verdict(NEEDS) is Verdict.RESERVED
    assert kept.reserved_against(NEEDS) == {"r": 2}
    assert places(kept, replace(NEEDS, key="r"), 3) == ["w1", "w1", None]


def test_slots_are_kept_only_where_the_key_is_served() -> None:
    python, r = worker("w1"), worker("w2", keys=frozenset({"python", "r"}))
    assert places(fleet(python, r, reserved={"r": 2}), NEEDS, 3) == ["w1", "w1", None]
    assert places(fleet(python, r, reserved={"julia": 9}), NEEDS, 5)[-2:] == ["w2", None]


def test_a_wide_task_waits_for_its_cores_and_nothing_slips_past_it() -> None:
    machine = worker("w1", slots=4, cores=4, taken=2, taken_cores=2)
    wide = replace(NEEDS, cores=4)
    line = fleet(machine, worker("w2"))
    assert line.verdict(wide) is Verdict.CORES
    assert line.place(wide) is None
    assert places(line, NEEDS, 3) == ["w2", "w2", None]
    assert fleet(replace(machine, taken=0, taken_cores=0)).place(wide) == "w1"


def test_what_it_says_of_a_lane() -> None:
    assert fleet(WORKER).verdict(NEEDS) is Verdict.ROOM
    assert fleet().verdict(NEEDS) is Verdict.FULL
    assert fleet(worker("w1", taken=2, taken_cores=2)).verdict(NEEDS) is Verdict.FULL
    loaded, full = worker("w1", load=99), worker("w2", taken=2, taken_cores=2)
    assert fleet(loaded, full).verdict(NEEDS) is Verdict.LOADED


def candidate(lane: str, *, more: bool = False) -> Candidate:
    return Candidate(uuid.uuid4(), uuid.uuid4(), lane, uuid.uuid4(), 0, 1, more)


def test_tasks_are_assigned_in_their_order_and_a_lane_that_can_t_stops_no_other() -> None:
    line = [candidate("gpu"), candidate("python"), candidate("gpu"), candidate("python"), candidate("python")]
    needs = {"python": NEEDS, "gpu": replace(NEEDS, tags=("gpu",))}
    assert assign(fleet(WORKER), line, needs, 9) == [(line[1], "w1"), (line[3], "w1")]
    assert assign(fleet(WORKER), line, needs, 1) == [(line[1], "w1")]


def test_it_ends_where_the_order_is_not_known_any_more() -> None:
    line = [candidate("python", more=True), candidate("python")]
    assert assign(fleet(WORKER), line, {"python": NEEDS}, 9) == [(line[0], "w1")]
    # Of a lane that can't be placed nothing more needs to be known.
    line = [candidate("gpu", more=True), candidate("python")]
    needs = {"python": NEEDS, "gpu": replace(NEEDS, tags=("gpu",))}
    assert assign(fleet(WORKER), line, needs, 9) == [(line[1], "w1")]


KEYS = st.sampled_from(["python", "r", "julia"])
NEEDED = st.builds(
    Needs,
    key=KEYS,
    cores=st.integers(1, 6),
    memory_bytes=st.integers(1, 4).map(lambda gib: gib * GIB),
    wall_seconds=st.sampled_from([30, 600]),
    tags=st.sampled_from([(), ("gpu",)]),
)


@st.composite
def workers(draw: st.DrawFn) -> list[Worker]:
    made = []
    for number in range(draw(st.integers(1, 4))):
        slots = draw(st.integers(1, 6))
        taken = draw(st.integers(0, slots))
        made.append(
            Worker(
                f"w{number}",
                keys=draw(st.frozensets(KEYS, min_size=1)),
                tags=draw(st.frozensets(st.just("gpu"))),
                slots=slots,
                cores=draw(st.integers(1, 6)),
                memory_bytes=draw(st.integers(1, 4)) * GIB,
                load=draw(st.floats(0, 30)),
                away=draw(st.booleans()) and draw(st.booleans()),
                taken=taken,
                taken_cores=taken,
            )
        )
    return made


RESERVED = st.dictionaries(KEYS, st.integers(1, 3))


@given(workers(), RESERVED, st.lists(NEEDED, max_size=20))
def test_nothing_is_given_that_is_not_there(
    machines: list[Worker], reserved: dict[str, int], tasks: list[Needs]
) -> None:
    line = Fleet(machines, reserved, RULES)
    by_name = {machine.name: machine for machine in machines}
    count, cores = Counter[str](), Counter[str]()
    for needs in tasks:
        verdict = line.verdict(needs)
        name = line.place(needs)
        if name is None:
            continue
        assert verdict is Verdict.ROOM
        machine = by_name[name]
        assert machine.usable
        assert machine.can(needs)
        count[name] += 1
        cores[name] += needs.cores
        assert machine.taken + count[name] <= machine.slots
        assert machine.taken_cores + cores[name] <= max(machine.cores, machine.slots)


@given(workers(), st.integers(1, 3), st.lists(NEEDED, max_size=20))
def test_a_reservation_holds_against_all_other_keys(
    machines: list[Worker], kept: int, tasks: list[Needs]
) -> None:
    def free(given: Counter[str]) -> int:
        return sum(w.slots - w.taken - given[w.name] for w in machines if w.usable and "r" in w.keys)

    line, given_to = Fleet(machines, {"r": kept}, RULES), Counter[str]()
    at_first = free(given_to)
    for needs in tasks:
        name = line.place(replace(needs, key="python"))
        given_to.update([name] if name else [])
    assert free(given_to) >= min(kept, at_first)


@given(st.data())
def test_a_wide_task_comes_to_its_turn_however_many_narrow_ones_follow(data: st.DataObject) -> None:
    cores = data.draw(st.integers(2, 6))
    wide, running = replace(NEEDS, cores=cores), cores
    machine = worker("w1", slots=cores, cores=cores)
    for _ in range(100):
        line = fleet(replace(machine, taken=running, taken_cores=running))
        if line.place(wide):
            return
        running += sum(name is not None for name in places(line, NEEDS, cores))
        running -= data.draw(st.integers(min(running, 1), running))
    pytest.fail("a hundred turns, and never its own")
