"""A job's tree as lines of a page."""

from __future__ import annotations

import pytest

from labfleet.web.pages.tree import WIDTH, bars, duration

COUNTS = dict.fromkeys(
    ["queued", "running", "success", "failed", "partial", "inapplicable", "cancelled", "skipped", "forgiven"],
    0,
)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (95, "1 min 35 s"),
        (3600, "1 h 0 min"),
        (90_061, "1 d 1 h"),
        (-3, "0 s"),
    ],
)
def test_durations_have_two_units(seconds: float, told: str) -> None:
    assert duration(seconds) == told


def test_bars_lie_side_by_side_and_fill_the_width() -> None:
    found = bars({**COUNTS, "total": 4, "queued": 2, "success": 1, "failed": 1})
    assert [(bar.state, bar.left, bar.width) for bar in found] == [
        ("success", 0, WIDTH / 4),
        ("failed", WIDTH / 4, WIDTH / 4),
        ("queued", WIDTH / 2, WIDTH / 2),
    ]


def test_a_job_without_tasks_has_no_bar() -> None:
    assert bars({**COUNTS, "total": 0}) == []
