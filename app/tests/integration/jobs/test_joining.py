"""Invitations of machines: kept once, given out once, swept when they are over."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session, sessionmaker

from labfleet.datasets.store import TooLarge
from labfleet.db.models import AuditRow, Join
from labfleet.errors import Invalid, JoinOver, NotFound, Unauthorized
from labfleet.jobs import joining
from labfleet.jobs.joining import Archives

Sessions = sessionmaker[Session]
Inviter = Callable[..., str]
ARCHIVE = b"encrypted " * 1000


@pytest.fixture
def archives(tmp_path: Path) -> Archives:
    return Archives(tmp_path)


@pytest.fixture
def invite(sessions: Sessions, archives: Archives) -> Inviter:
    def make(worker: str = "w9", content: bytes = ARCHIVE, hours: float = 1, limit: int = 100_000) -> str:
        with sessions.begin() as db:
            return joining.invite(db, archives, worker, io.BytesIO(content), hours=hours, limit=limit)

    return make


def files(archives: Archives) -> list[Path]:
    return sorted(archives.root.iterdir()) if archives.root.exists() else []


def test_it_is_given_out_once(sessions: Sessions, archives: Archives, invite: Inviter) -> None:
    token = invite()
    assert token.startswith("lj_")
    (kept,) = files(archives)
    assert kept.stat().st_mode & 0o777 == 0o600
    assert archives.root.stat().st_mode & 0o777 == 0o700
    with sessions.begin() as db:
        row = joining.use(db, "w9", token)
    with archives.take(row) as given:
        assert given.read() == ARCHIVE
    assert files(archives) == []
    with pytest.raises(JoinOver, match="used already"), sessions.begin() as db:
        joining.use(db, "w9", token)
    with pytest.raises(JoinOver, match="gone"):
        archives.take(row)


def test_the_token_stands_nowhere(sessions: Sessions, invite: Inviter) -> None:
    token = invite()
    with sessions() as db:
        rows = [db.scalars(select(kind)).one() for kind in (Join, AuditRow)]
    assert all(token not in str(vars(row)) and token[3:] not in str(vars(row)) for row in rows)
    assert rows[1].action == "worker.invited"


def test_a_token_is_good_for_one_name(sessions: Sessions, invite: Inviter) -> None:
    token = invite()
    for name, given in (("w8", token), ("w9", token + "x"), ("w9", "lj_none"), ("w9", "\x00")):
        with pytest.raises(Unauthorized), sessions.begin() as db:
            joining.use(db, name, given)
    with sessions.begin() as db:
        joining.use(db, "w9", token)


def test_a_newer_invitation_takes_the_older_ones_place(
    sessions: Sessions, archives: Archives, invite: Inviter
) -> None:
    first, other, second = invite(), invite("w8"), invite()
    assert len(files(archives)) == 2
    with pytest.raises(JoinOver, match="newer"), sessions.begin() as db:
        joining.use(db, "w9", first)
    with sessions.begin() as db:
        joining.use(db, "w8", other)
        joining.use(db, "w9", second)


def test_it_can_be_taken_back(sessions: Sessions, archives: Archives, invite: Inviter) -> None:
    token = invite()
    with sessions() as db:
        assert [row.worker for row in joining.waiting(db)] == ["w9"]
    with sessions.begin() as db:
        joining.withdraw(db, archives, "w9")
    assert files(archives) == []
    with pytest.raises(JoinOver, match="taken back"), sessions.begin() as db:
        joining.use(db, "w9", token)
    with pytest.raises(NotFound), sessions.begin() as db:
        joining.withdraw(db, archives, "w9")


def test_what_is_over_is_swept(sessions: Sessions, archives: Archives, invite: Inviter) -> None:
    over = invite()
    invite("w8")
    with sessions.begin() as db:
        past = func.clock_timestamp() - timedelta(seconds=1)
        db.execute(update(Join).where(Join.worker == "w9").values(expires_at=past))
    with pytest.raises(JoinOver, match="time"), sessions.begin() as db:
        joining.use(db, "w9", over)
    long_ago = time.time() - joining.ABANDONED_SECONDS - 60
    (archives.root / "in-killed").write_bytes(b"half")
    for path in files(archives):
        os.utime(path, (long_ago, long_ago))
    (archives.root / "in-young").write_bytes(b"it is just being received")
    assert joining.sweep(sessions, archives) == 2
    with sessions() as db:
        (row,) = joining.waiting(db)
    assert files(archives) == sorted([archives.path(row.id), archives.root / "in-young"])


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"worker": "no such/name"}, Invalid),
        ({"content": b""}, Invalid),
        ({"limit": len(ARCHIVE) - 1}, TooLarge),
    ],
)
def test_what_can_not_be_kept_leaves_nothing_behind(
    archives: Archives, invite: Inviter, given: dict[str, object], error: type[Exception]
) -> None:
    with pytest.raises(error):
        invite(**given)
    assert files(archives) == []
