"""Slots: never more attempts than the worker may run, whoever started them."""

from __future__ import annotations

import threading

import pytest

from labfleet.worker import slots as module
from labfleet.worker.bus import BusError
from labfleet.worker.slots import Slots


def never() -> bool:
    return False


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_AGAIN_SECONDS", 0.01)


def test_slots_are_held_and_given_back() -> None:
    slots = Slots(2, set)
    assert slots.acquire("a", never)
    assert slots.free() == 1
    slots.release("a")
    assert slots.free() == 2


def test_an_attempt_holds_one_slot_only() -> None:
    slots = Slots(2, set)
    assert slots.acquire("a", never)
    assert not slots.acquire("a", never)
    assert slots.free() == 1


def test_older_units_hold_slots_until_they_end() -> None:
    running = {"old"}
    slots = Slots(1, lambda: set(running))
    assert slots.free() == 0
    running.clear()
    assert slots.acquire("new", never)


def test_an_older_unit_is_taken_over_without_a_second_slot() -> None:
    slots = Slots(1, lambda: {"old"})
    assert slots.acquire("old", never)
    assert slots.free() == 0


def test_units_that_start_later_are_not_counted_twice() -> None:
    running = {"old"}
    slots = Slots(2, lambda: set(running))
    assert slots.acquire("new", never)
    running.add("new")
    assert slots.free() == 0
    running.discard("old")
    assert slots.free() == 1


def test_units_count_while_systemd_is_not_heard() -> None:
    answers: list[set[str]] = [{"old"}]

    def ask() -> set[str]:
        if answers:
            return answers.pop()
        raise BusError("away")

    slots = Slots(2, ask)
    assert slots.free() == 1


def test_nobody_waits_when_the_worker_stops() -> None:
    stopping = threading.Event()
    slots = Slots(1, set)
    assert slots.acquire("a", stopping.is_set)
    threading.Timer(0.05, stopping.set).start()
    assert not slots.acquire("b", stopping.is_set)
    slots.release("a")
    assert not slots.acquire("c", stopping.is_set)


def test_never_more_than_there_are() -> None:
    slots, most, lock = Slots(3, set), [0, 0], threading.Lock()

    def work(name: str) -> None:
        assert slots.acquire(name, never)
        with lock:
            most[0] += 1
            most[1] = max(most)
        threading.Event().wait(0.002)
        with lock:
            most[0] -= 1
        slots.release(name)

    threads = [threading.Thread(target=work, args=(str(number),)) for number in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert most == [0, 3]
