from __future__ import annotations

from dataclasses import replace

from sqlalchemy.orm import Session, sessionmaker

from labfleet.jobs.presence import Presence, list_workers, report

PRESENCE = Presence(["r", "python"], 2, 1, 4, 0.5, 2**33, 2**40, "0.1.0")


def test_a_worker_is_remembered_by_its_last_report(sessions: sessionmaker[Session]) -> None:
    with sessions.begin() as session:
        report(session, "w2", PRESENCE)
        report(session, "w1", PRESENCE)
    with sessions() as session:
        first = list_workers(session)[1].last_seen
    with sessions.begin() as session:
        report(session, "w2", replace(PRESENCE, free_slots=0))
    with sessions() as session:
        rows = list_workers(session)
    assert [row.name for row in rows] == ["w1", "w2"]
    assert (rows[0].free_slots, rows[1].free_slots) == (1, 0)
    assert rows[1].keys == ["r", "python"]
    assert rows[1].disk_free == 2**40
    assert rows[1].last_seen > first
