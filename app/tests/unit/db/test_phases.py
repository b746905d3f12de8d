from __future__ import annotations

import pytest

from labfleet.db.upgrade import Change, Phase, _split, changes
from labfleet.errors import Conflict

A, B = Change("0005", Phase.PRE, True), Change("0006", Phase.PRE, True)
LATE = Change("0007", Phase.POST, False)


def test_every_revision_says_when_it_runs() -> None:
    found = changes()
    assert [change.revision for change in found] == sorted(change.revision for change in found)
    assert all(change.rollback_safe for change in found if change.phase is Phase.PRE)


def test_the_first_phase_stops_before_what_has_to_wait() -> None:
    assert _split([A, B, LATE], Phase.PRE) == ([A, B], [LATE])
    assert _split([LATE], Phase.PRE) == ([], [LATE])


def test_the_last_phase_runs_all_that_is_left() -> None:
    assert _split([A, LATE], Phase.POST) == ([A, LATE], [])
    assert _split([A, LATE], None) == ([A, LATE], [])


def test_a_release_can_t_be_skipped_when_its_last_phase_is_missing() -> None:
    with pytest.raises(Conflict, match="0006 must run before the new code, but 0007"):
        _split([A, LATE, B], Phase.PRE)
