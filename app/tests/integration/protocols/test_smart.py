from __future__ import annotations

import threading

import pytest

from labfleet.protocols import smart
from labfleet.protocols.store import ProtocolStore


def test_a_push_whose_time_is_over_is_ended_and_leaves_nothing(store: ProtocolStore) -> None:
    late = threading.Event()

    def read(size: int) -> bytes:
        assert late.wait(60), "nobody said that the time is over"
        return b""

    bounds = smart.Bounds(seconds=0.5, memory_bytes=2**30, input_bytes=2**20, objects=1000)
    with store.beside("demo") as pushed:
        with (
            pytest.raises(smart.TookTooLong),
            smart.pushed(pushed.path("demo"), "demo", read, bounds, late.set),
        ):
            pytest.fail("there is no answer")
        assert pushed.refs("demo") == {}
    assert list(store.directory.iterdir()) == []
