"""How often one may try."""

from __future__ import annotations

import pytest

from labfleet.web import ratelimit
from labfleet.web.ratelimit import RateLimit, TooManyRequests


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_after_so_many_failures_one_waits() -> None:
    clock = Clock()
    limit = RateLimit(3, 60, clock)
    for _ in range(3):
        limit.check("ada")
        limit.failed("ada")
    with pytest.raises(TooManyRequests) as caught:
        limit.check("eve", "ada")
    assert caught.value.extra == {"retry_after": 61}
    limit.check("eve")
    clock.now = 60.5
    limit.check("ada")


def test_memory_stays_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ratelimit, "MAX_KEYS", 5)
    limit = RateLimit(1, 60)
    for number in range(50):
        limit.failed(str(number))
    assert len(limit._failures) == 5
