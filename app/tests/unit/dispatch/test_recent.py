from __future__ import annotations

import uuid

from labfleet.dispatch.recent import MOST, Recent


def test_it_forgets_what_was_placed_long_ago_or_long_before_others() -> None:
    now = [100.0]
    recent = Recent(2, lambda: now[0])
    first, second = [uuid.uuid4()], [uuid.uuid4(), uuid.uuid4()]
    recent.add(first)
    now[0] += 1.5
    recent.add(second)
    assert recent.tasks() == first + second
    now[0] += 1
    assert recent.tasks() == second
    many = [uuid.uuid4() for _ in range(MOST)]
    recent.add(many)
    assert recent.tasks() == many
