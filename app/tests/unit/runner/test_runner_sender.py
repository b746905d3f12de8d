"""The sender: batches from any thread, one connection that comes and goes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest

from labfleet.runner import sender as module
from labfleet.runner.broker import CONFIRMED, FAILED, Broker
from labfleet.runner.messages import Outgoing, outgoing
from labfleet.runner.sender import BrokerAway, Sender

TASK = "0c2e4a3e-6f64-4a1b-9c55-0a4a4e1b7d11"
BATCH = [outgoing("cancel", "web", {"task": TASK, "attempt": number}) for number in (1, 2)]


class Line:
    """A connection. `fault` is raised by the next publish."""

    def __init__(self) -> None:
        self.unsure = False
        self.fault: Exception | None = None
        self.closed = threading.Event()
        self.ticks = threading.Semaphore(0)

    def publish(self, batch: list[Outgoing]) -> list[str]:
        if self.fault:
            raise self.fault
        return [FAILED if self.unsure else CONFIRMED for _ in batch]

    def tick(self) -> None:
        self.ticks.release()

    def close(self) -> None:
        self.closed.set()


@contextmanager
def running(connect: Callable[[], Any]) -> Iterator[Sender]:
    sender = Sender(cast(Callable[[], Broker], connect))
    sender.start()
    yield sender
    sender.stop()
    sender.join(5)
    assert not sender.is_alive()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TICK_SECONDS", 0.01)
    monkeypatch.setattr(module, "BACKOFF_SECONDS", (0.01, 0.02))


def test_a_batch_is_published_and_answered_in_order() -> None:
    with running(Line) as sender:
        assert sender.submit(BATCH).result(5) == [CONFIRMED, CONFIRMED]


def test_the_connection_is_closed_at_the_end() -> None:
    line = Line()
    with running(lambda: line) as sender:
        sender.submit(BATCH).result(5)
    assert line.closed.is_set()


def test_an_idle_connection_is_looked_after() -> None:
    line = Line()
    with running(lambda: line):
        assert line.ticks.acquire(timeout=5)


def test_without_a_broker_the_answer_is_quick() -> None:
    def refuse() -> None:
        raise ConnectionRefusedError

    with running(refuse) as sender:
        with pytest.raises(BrokerAway):
            sender.submit(BATCH).result(5)
        assert not sender.connected


def test_it_comes_back_when_the_broker_does() -> None:
    lines: list[Line] = []

    def connect() -> Line:
        lines.append(Line())
        if len(lines) < 3:
            raise ConnectionRefusedError
        return lines[-1]

    with running(connect) as sender:
        assert lines[0] is not None
        while not sender.connected:
            threading.Event().wait(0.01)
        assert sender.submit(BATCH).result(5) == [CONFIRMED] * 2
        assert len(lines) == 3


@pytest.mark.parametrize("fault", [ConnectionResetError(), None])
def test_what_was_not_confirmed_has_failed_and_the_line_is_renewed(fault: Exception | None) -> None:
    lines = [Line(), Line()]
    lines[0].fault, lines[0].unsure = fault, fault is None
    coming = iter(lines)

    with running(lambda: next(coming)) as sender:
        assert sender.submit(BATCH).result(5) == [FAILED, FAILED]
        assert lines[0].closed.wait(5)
        assert sender.submit(BATCH).result(5) == [CONFIRMED, CONFIRMED]
