"""Machines that join the fleet by themselves: each has an archive, given out once to who has its token.

The archive is encrypted with a key that never comes here: it has the broker's password of the workers, which
the webserver must not know. Of the token only a hash is kept. No function commits; its caller does.
"""

from __future__ import annotations

import hashlib
import secrets
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import IO, BinaryIO

from sqlalchemy import and_, delete, func, select
from sqlalchemy.orm import Session, sessionmaker

from labfleet.datasets.store import too_large
from labfleet.db.models import Join
from labfleet.errors import Invalid, JoinOver, NotFound, Unauthorized
from labfleet.names import is_worker
from labfleet.users import audit
from labfleet.users.audit import Action

PREFIX = "lj_"
PIECE = 1024 * 1024
DIRECTORY_MODE = 0o700
# How long an invitation that is over is remembered, so that who comes with it is told what has become of it.
KEPT = timedelta(days=30)
# A younger file without a row may be one that is just being received.
ABANDONED_SECONDS = 3600.0
OPEN = and_(Join.used_at.is_(None), Join.withdrawn_at.is_(None), Join.expires_at > func.clock_timestamp())
"""What a machine can still join by."""


class Archives:
    """The archives that wait for their machines: files of one directory, which only our own user may read."""

    def __init__(self, store: Path) -> None:
        self.root = store / "joins"

    def path(self, join: uuid.UUID) -> Path:
        """Where the archive of this invitation lies."""
        return self.root / str(join)

    @contextmanager
    def receive(self, source: IO[bytes], limit: int) -> Iterator[Path]:
        """A file with all that comes from `source`, gone at the end unless moved. `TooLarge`, `Invalid`."""
        self.root.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=self.root, prefix="in-", delete=False) as target:
            received = Path(target.name)
            try:
                while piece := source.read(PIECE):
                    if target.tell() + len(piece) > limit:
                        raise too_large(limit)
                    target.write(piece)
                if not target.tell():
                    raise Invalid("The archive is empty.", hint="Pass it on standard input.")
                target.flush()
                yield received
            finally:
                received.unlink(missing_ok=True)

    def take(self, join: uuid.UUID) -> BinaryIO:
        """The archive for reading. Its file is gone from now on; `JoinOver` if it was."""
        try:
            archive = self.path(join).open("rb")
        except FileNotFoundError:
            raise JoinOver("The archive of this invitation is gone.") from None
        self.path(join).unlink(missing_ok=True)
        return archive

    def sweep(self, waiting: set[str]) -> int:
        """Remove all old files but those of the invitations `waiting`; returns how many."""
        removed = 0
        for path in self.root.iterdir() if self.root.is_dir() else ():
            young = path.stat().st_mtime > time.time() - ABANDONED_SECONDS
            if path.name not in waiting and not young:
                path.unlink(missing_ok=True)
                removed += 1
        return removed


def invite(
    session: Session, archives: Archives, worker: str, source: IO[bytes], *, hours: float, limit: int
) -> str:
    """Keep an archive for the machine that is to be the worker; gives the token, which is shown only now.

    An invitation of the same worker that is still open is taken back. `Invalid`, `TooLarge`.
    """
    if not is_worker(worker):
        raise Invalid(f"'{worker}' is no worker's name: dotted words of letters, digits, _ and -.")
    token = PREFIX + secrets.token_urlsafe(32)
    with archives.receive(source, limit) as received:
        session.execute(delete(Join).where(Join.expires_at < func.clock_timestamp() - KEPT))
        _take_back(session, archives, worker)
        row = Join(
            worker=worker,
            hash=_digest(token),
            size=received.stat().st_size,
            expires_at=func.clock_timestamp() + timedelta(hours=hours),
        )
        session.add(row)
        audit.record(session, Action.WORKER_INVITED, worker, hours=hours)
        session.flush()
        shutil.move(received, archives.path(row.id))
    return token


def withdraw(session: Session, archives: Archives, worker: str) -> None:
    """Take back the open invitation of a worker; `NotFound` if there is none."""
    if not _take_back(session, archives, worker):
        raise NotFound(f"No invitation of '{worker}' is open.", hint="'labfleet-admin join list' lists them.")
    audit.record(session, Action.WORKER_INVITATION_WITHDRAWN, worker)


def _take_back(session: Session, archives: Archives, worker: str) -> bool:
    rows = session.scalars(select(Join).where(OPEN, Join.worker == worker).with_for_update()).all()
    for row in rows:
        row.withdrawn_at = func.clock_timestamp()
        archives.path(row.id).unlink(missing_ok=True)
    return bool(rows)


def use(session: Session, worker: str, token: str) -> uuid.UUID:
    """The invitation of this worker and token, which is used by that.

    `Unauthorized` for a token that is not the worker's, `JoinOver` for one that is good no more. Of two who
    come at once with the same one, the second waits here until the first has it.
    """
    row = session.scalars(select(Join).where(Join.hash == _digest(token)).with_for_update()).one_or_none()
    if row is None or row.worker != worker:
        raise Unauthorized(
            f"The token is not that of an invitation of '{worker}'.",
            hint="Run playbooks/invite.yml on the controller, and use what it writes.",
        )
    if row.used_at is not None:
        raise JoinOver("This invitation has been used already.", worker=worker)
    if row.withdrawn_at is not None:
        raise JoinOver("This invitation was taken back, or a newer one was made.", worker=worker)
    if not session.scalar(select(Join.expires_at > func.clock_timestamp()).where(Join.id == row.id)):
        raise JoinOver("The time of this invitation is over.", worker=worker)
    row.used_at = func.clock_timestamp()
    audit.record(session, Action.WORKER_JOINED, worker)
    return row.id


def refused(session: Session, worker: str, why: str) -> None:
    """Note that somebody came with a token that was good once: it may have been stolen."""
    audit.record(session, Action.WORKER_JOIN_REFUSED, worker, why=why)


def waiting(session: Session) -> Sequence[Join]:
    """The invitations that are open, by worker."""
    return session.scalars(select(Join).where(OPEN).order_by(Join.worker)).all()


def sweep(sessions: sessionmaker[Session], archives: Archives) -> int:
    """Remove archives of invitations that are over; returns how many."""
    with sessions() as session:
        return archives.sweep({str(row.id) for row in waiting(session)})


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
