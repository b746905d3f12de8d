"""Fetches: a source is asked for, `labfleet loader` takes it, and what came becomes a version of its dataset.

A source has one open fetch at most: who asks meanwhile gets that one. What was fetched is good for the
source's lifetime, and is not fetched again before. A row that was taken belongs to its taker until `due_at`;
whose process died loses it then. No function commits.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, delete, func, select, text
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session

from labfleet.datasets import service as datasets
from labfleet.datasets.names import BadName, check_name
from labfleet.datasets.store import Blob
from labfleet.db.models import (
    Dataset,
    DatasetShare,
    Fetch,
    Protocol,
    Source,
    SourceCredentials,
    User,
)
from labfleet.errors import NotFound, WrongState
from labfleet.jobs import quotas
from labfleet.sources import access
from labfleet.users import sharing

CHANNEL = "labfleet_sources"
OPEN = ("queued", "running")
IS_OPEN = Fetch.state.in_(OPEN)
BEAT_SECONDS = 120
"""So long a fetch belongs to its taker without a word of it."""


@dataclass(frozen=True)
class Taken:
    """A fetch to be carried; `number` says which try it is, `sealed` are the source's credentials."""

    fetch_id: uuid.UUID
    number: int
    source_id: uuid.UUID
    owner_id: uuid.UUID
    definition: dict[str, Any]
    sealed: str | None = None


class Lost(Exception):
    """The fetch is not this taker's any more: cancelled, deleted, or taken by another."""


def ask(
    session: Session, viewer: User, source_id: uuid.UUID, *, anew: bool = False, kept: int = 50
) -> tuple[Fetch, bool]:
    """Have the source fetched; the fetch, and whether it is a new one.

    One that is under way is everybody's. One that succeeded within the lifetime is good, unless `anew`.
    """
    source = access.get_source(session, viewer, source_id, lock=True)
    found = session.scalars(select(Fetch).where(Fetch.source_id == source.id, IS_OPEN)).one_or_none()
    if found is None and not anew:
        found = fresh(session, source)
    if found is not None:
        return found, False
    fetch = Fetch(source_id=source.id, asked_by=viewer.id)
    session.add(fetch)
    session.flush()
    _forget_old(session, source.id, kept)
    wake(session)
    return fetch, True


def fresh(session: Session, source: Source) -> Fetch | None:
    """The last fetch that is good: within the lifetime, of the present definition, with its dataset."""
    good = (
        Fetch.source_id == source.id,
        Fetch.state == "success",
        Fetch.dataset_id.is_not(None),
        Fetch.created_at >= source.changed_at,
        Fetch.finished_at > func.clock_timestamp() - timedelta(seconds=source.lifetime_seconds),
    )
    return session.scalars(
        select(Fetch).where(*good).order_by(Fetch.created_at.desc()).limit(1)
    ).one_or_none()


def last_of(session: Session, sources: Sequence[Source]) -> dict[uuid.UUID, Fetch]:
    """The last fetch of each of these sources that has one."""
    wanted = [each.id for each in sources]
    statement = (
        select(Fetch)
        .where(Fetch.source_id.in_(wanted))
        .ext(distinct_on(Fetch.source_id))
        .order_by(Fetch.source_id, Fetch.created_at.desc())
    )
    return {row.source_id: row for row in session.scalars(statement)}


def list_fetches(session: Session, source: Source, limit: int) -> Sequence[Fetch]:
    """The source's last fetches, newest first."""
    statement = select(Fetch).where(Fetch.source_id == source.id)
    return session.scalars(statement.order_by(Fetch.created_at.desc(), Fetch.id).limit(limit)).all()


def get_fetch(session: Session, viewer: User, source_id: uuid.UUID, fetch_id: uuid.UUID) -> Fetch:
    """The fetch of a source that the viewer may see; `NotFound`."""
    source = access.get_source(session, viewer, source_id)
    row = session.get(Fetch, fetch_id, populate_existing=True)
    if row is None or row.source_id != source.id:
        raise NotFound(f"The source has no fetch {fetch_id}.")
    return row


def cancel(session: Session, viewer: User, source_id: uuid.UUID, fetch_id: uuid.UUID) -> Fetch:
    """End a fetch that is under way: for the source's owner, and who asked. `WrongState` if it has ended."""
    source = access.get_source(session, viewer, source_id, lock=True)
    row = get_fetch(session, viewer, source_id, fetch_id)
    if row.asked_by != viewer.id:
        source = access.to_change(session, viewer, source.id)
    row = session.get_one(Fetch, fetch_id, with_for_update=True, populate_existing=True)
    if row.state not in OPEN:
        raise WrongState(f"The fetch has ended: {row.state}.", state=row.state)
    _end(row, "cancelled", "")
    session.flush()
    return row


def wake(session: Session) -> None:
    """Let the loader look what is due, when this commits."""
    session.execute(text("SELECT pg_notify(:channel, '')"), {"channel": CHANNEL})


def take(session: Session, tries: int) -> Taken | None:
    """Take the fetch that is due first; None if none is. One that was taken too often is given up here."""
    due = (
        select(Fetch)
        .where(IS_OPEN, Fetch.due_at <= func.clock_timestamp())
        .order_by(Fetch.due_at, Fetch.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    while row := session.scalars(due.execution_options(populate_existing=True)).one_or_none():
        if row.state == "running" and row.tries >= tries:
            _end(row, "failed", "Fetching it ended the process that did it, each time it was tried.")
            session.flush()
            continue
        row.state, row.tries = "running", row.tries + 1
        row.progress, row.progress_text, row.message = 0, "", ""
        row.started_at = func.clock_timestamp()
        row.due_at = _later(BEAT_SECONDS)
        session.flush()
        source = session.get_one(Source, row.source_id)
        sealed = session.scalar(
            select(SourceCredentials.sealed).where(SourceCredentials.source_id == source.id)
        )
        return Taken(row.id, row.tries, source.id, source.owner_id, source.definition, sealed)
    return None


def tell(
    session: Session,
    taken: Taken,
    progress: float | None,
    words: str | None,
    *,
    seconds: float = BEAT_SECONDS,
) -> None:
    """Note how far it is, and that it is ours for so long; `Lost` if it isn't any more."""
    row = _mine(session, taken)
    if progress is not None:
        row.progress = min(max(progress, 0.0), 1.0)
    if words is not None:
        row.progress_text = words[:200]
    row.due_at = _later(seconds)
    session.flush()


def claim(session: Session, taken: Taken, blob: Blob) -> None:
    """Whether what came may be stored: `Lost` if nobody wants it any more, `QuotaExceeded` of the owner."""
    source = _source(session, taken)
    _mine(session, taken)
    if source.dataset is None or source.dataset.sha256 != blob.sha256:
        quotas.claim_storage(session, source.owner, blob.size)


def succeed(session: Session, taken: Taken, blob: Blob, told: dict[str, Any]) -> bool:
    """Make what came the next version of the source's dataset; False if it is what was there already."""
    source = _source(session, taken)
    row = _mine(session, taken)
    name = dataset_name(source, str(told.get("name", "")))
    last = source.dataset
    changed = last is None or (last.sha256, last.name) != (blob.sha256, name)
    if changed:
        made = datasets.add_dataset(
            session,
            source.owner,
            name,
            str(told.get("media_type", "")),
            blob,
            about={} if last else {"description": source.description},
            previous=last.id if last else None,
        )
        _share_as(session, source, made)
        source.dataset_id = made.id
    row.dataset_id, row.changed = source.dataset_id, changed
    row.rows, row.bytes = told.get("rows"), blob.size
    row.progress, row.progress_text = 1, ""
    _end(row, "success", " ".join(map(str, told.get("notes") or []))[:2000])
    session.flush()
    return changed


def owner_of(session: Session, taken: Taken) -> User:
    """For whom it is fetched; `Lost` if nobody wants it any more, `NotFound` for a disabled account."""
    source = _source(session, taken)
    _mine(session, taken)
    return source.owner


def succeed_with_versions(
    session: Session, taken: Taken, protocol: Protocol, versions: Sequence[str], *, size: int, notes: str
) -> bool:
    """Note which versions of the protocol are new; whether any is."""
    source = _source(session, taken)
    row = _mine(session, taken)
    source.protocol_id = protocol.id
    row.changed, row.bytes, row.progress = bool(versions), size, 1
    row.progress_text = f"{protocol.name} {', '.join(versions)}"[:200] if versions else ""
    _end(row, "success", notes[:2000])
    session.flush()
    return row.changed


def fail(session: Session, taken: Taken, message: str, again_seconds: float | None) -> None:
    """Note why it failed; it is tried again after so many seconds, unless that is None."""
    row = _mine(session, taken)
    if again_seconds is None:
        _end(row, "failed", message[:2000])
    else:
        row.state, row.message, row.progress_text = "queued", message[:2000], ""
        row.due_at = _later(again_seconds)
    session.flush()


def hand_back(session: Session, taken: Taken) -> None:
    """Let another take it at once: it was not the source's fault."""
    row = _mine(session, taken)
    row.state, row.tries = "queued", row.tries - 1
    row.due_at = func.clock_timestamp()
    session.flush()


def next_due(session: Session) -> float:
    """In how many seconds the next one is due, negative when it is late; infinity for none."""
    first = select(func.extract("epoch", func.min(Fetch.due_at) - func.clock_timestamp()))
    seconds = session.scalar(first.where(IS_OPEN))
    return float("inf" if seconds is None else seconds)


def dataset_name(source: Source, name: str) -> str:
    """What the dataset is called: as the source, with the ending of what it is."""
    if source.definition["format"] != "file":
        return f"{source.name}.parquet"
    ending = name.rsplit(".", 1)[-1] if "." in name else ""
    try:
        return check_name(f"{source.name}.{ending}") if ending.isalnum() else source.name
    except BadName:
        return source.name


def _share_as(session: Session, source: Source, dataset: Dataset) -> None:
    """Who may fetch the source sees what came of it."""
    dataset.public = source.public
    dataset.shares.extend(
        DatasetShare(user_id=each.user_id, group_name=each.group_name) for each in source.shares
    )
    session.flush()


def _source(session: Session, taken: Taken) -> Source:
    source = session.get(Source, taken.source_id, with_for_update={"of": Source}, populate_existing=True)
    if source is None:
        raise Lost
    if source.owner.disabled_at is not None:
        raise NotFound(f"The account of '{source.owner.name}', who owns the source, is disabled.")
    return source


def _mine(session: Session, taken: Taken) -> Fetch:
    row = session.get(Fetch, taken.fetch_id, with_for_update=True, populate_existing=True)
    if row is None or row.state != "running" or row.tries != taken.number:
        raise Lost
    return row


def _end(row: Fetch, state: str, message: str) -> None:
    row.state, row.message = state, message
    row.finished_at = func.clock_timestamp()


def _later(seconds: float) -> ColumnElement[Any]:
    return func.clock_timestamp() + timedelta(seconds=seconds)


def _forget_old(session: Session, source_id: uuid.UUID, kept: int) -> None:
    recent = (
        select(Fetch.id)
        .where(Fetch.source_id == source_id)
        .order_by(Fetch.created_at.desc(), Fetch.id)
        .limit(kept)
    )
    session.execute(delete(Fetch).where(Fetch.source_id == source_id, Fetch.id.not_in(recent)))


def may_cancel(viewer: User, source: Source, fetch: Fetch) -> bool:
    """Whether the viewer may end the fetch."""
    return fetch.asked_by == viewer.id or sharing.may_change(viewer, source)
