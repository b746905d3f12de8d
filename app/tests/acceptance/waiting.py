"""Waiting for something to become true, with a limit and a message that says what did not."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_for(probe: Callable[[], T | None], seconds: float, what: str, every: float = 0.1) -> T:
    """The first truthy answer of `probe`; AssertionError naming `what` after `seconds`."""
    limit = time.monotonic() + seconds
    while True:
        found = probe()
        if found:
            return found
        assert time.monotonic() < limit, f"{what}: not within {seconds} s (last: {found!r})"
        time.sleep(every)
