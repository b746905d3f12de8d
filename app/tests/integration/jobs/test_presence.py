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


def test_what_is_told_of_a_machine_is_kept_and_only_an_admin_drains(sessions: sessionmaker[Session]) -> None:
    told = replace(
        PRESENCE,
        memory_total=2**34,
        tags=["large"],
        stopping=True,
        environment={"os": "Debian", "r": "4.2.2"},
    )
    with sessions.begin() as session:
        assert report(session, "w1", told) is False
    with sessions.begin() as session:
        row = list_workers(session)[0]
        assert (row.memory_total, row.tags, row.stopping) == (2**34, ["large"], True)
        assert row.environment == {"os": "Debian", "r": "4.2.2"}
        row.draining = True
    with sessions.begin() as session:
        assert report(session, "w1", PRESENCE) is True
    with sessions() as session:
        assert list_workers(session)[0].stopping is False
