"""Waiting for something to become true, with a limit and a message that says what did not."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_for(
    probe: Callable[[], T | None],
    seconds: float,
    what: str,
    instead: Callable[[], object] | None = None,
    pause: float = 0.1,
) -> T:
    """The first truthy answer of `probe`; AssertionError after `seconds` that tells what is `instead`."""
    limit = time.monotonic() + seconds
    while True:
        found = probe()
        if found:
            return found
        if time.monotonic() > limit:
            raise AssertionError(f"{what}: not within {seconds} s; {instead() if instead else found!r}")
        time.sleep(pause)
