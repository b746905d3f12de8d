"""What comes from a git repository: taken in as if its owner had pushed it.

The same program of git, the same hook, the same bounds, quota and rules for names; what does not pass leaves
nothing. Tags that are here already never move, and main only goes on from where it is unless the source says
that a rewritten history is to be followed.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from labfleet.config import ProtocolsSection
from labfleet.db import models
from labfleet.errors import LabfleetError, Unavailable
from labfleet.fetching.handlers.base import FetchFailed
from labfleet.fetching.wire import Json
from labfleet.jobs import quotas
from labfleet.protocols import access, service, smart
from labfleet.protocols.incoming import MAIN, NOTHING, TAG, Change
from labfleet.protocols.manifest import NAME
from labfleet.protocols.store import COMMIT, ProtocolStore
from labfleet.sources import fetches

CHUNK = 256 * 1024
SLACK_SECONDS = 60
NOT_FAST_FORWARD = "non-fast-forward"


class Stream(Protocol):
    """What comes; `end` is what was told with it, when all has come."""

    end: Json | None

    def read(self, size: int, /) -> bytes:
        """At most so many bytes, none at the end."""
        ...


@dataclass(frozen=True)
class Brought:
    """What the fetcher says of the pack. Nothing of it is believed that the hook does not find, too."""

    name: str
    refs: Mapping[str, str]
    notes: list[str]

    @classmethod
    def of(cls, told: Json) -> Brought:
        """`FetchFailed` for anything that is not so."""
        name, refs = str(told.get("protocol", "")), dict(told.get("refs") or {})
        good = all(
            (ref == MAIN or ref.startswith(TAG)) and COMMIT.fullmatch(str(commit))
            for ref, commit in refs.items()
        )
        if not re.fullmatch(NAME, name) or MAIN not in refs or not good:
            raise FetchFailed("What came is no protocol.")
        return cls(
            name,
            {str(ref): str(commit) for ref, commit in refs.items()},
            list(map(str, told.get("notes") or [])),
        )


class Importer:
    """Takes protocols in, for the loader."""

    def __init__(
        self, store: ProtocolStore, section: ProtocolsSection, sessions: sessionmaker[Session]
    ) -> None:
        self._store = store
        self._section = section
        self._sessions = sessions

    def take(self, taken: fetches.Taken, stream: Stream) -> tuple[bool, int]:
        """Whether there was anything new, and how much came. `FetchFailed` says why nothing was taken in."""
        with tempfile.TemporaryFile() as pack:
            size = _spooled(stream, pack, self._section.max_push_bytes)
            brought = Brought.of(stream.end or {})
            try:
                return self._received(taken, brought, pack, size), size
            except Unavailable as error:
                raise FetchFailed(f"{error.detail} {error.hint}", passing=True) from None
            except LabfleetError as error:
                raise FetchFailed(f"{error.detail} {error.hint}") from None

    def _received(self, taken: fetches.Taken, brought: Brought, pack: BinaryIO, size: int) -> bool:
        name = brought.name
        with self._sessions.begin() as db:
            known = access.may_change_named(db, fetches.owner_of(db, taken), name)
            seconds = self._section.git_seconds + SLACK_SECONDS
            fetches.tell(db, taken, None, "checking every version", seconds=seconds)
        if not known:
            with self._store.beside(name) as fresh:
                return self._into(fresh, taken, brought, pack, size)
        with self._store.alone(name):
            before = self._store.refs(name)
            try:
                return self._into(self._store, taken, brought, pack, size)
            except BaseException:
                self._store.restore(name, before)
                raise

    def _into(
        self, store: ProtocolStore, taken: fetches.Taken, brought: Brought, pack: BinaryIO, size: int
    ) -> bool:
        changes, notes = changes_to(store, brought)
        if changes:
            rewrite = bool(taken.definition["parameters"].get("rewrite"))
            self._push(store.path(brought.name), brought.name, _after(smart.request(changes), pack), rewrite)
        try:
            with self._sessions.begin() as db:
                owner = fetches.owner_of(db, taken)  # from here on nobody cancels it
                new = self._enter(db, owner, store, brought.name) if changes else []
                protocol = access.get_protocol(db, owner, brought.name)
                told = " ".join([*brought.notes, *notes])
                return fetches.succeed_with_versions(db, taken, protocol, new, size=size, notes=told)
        except BaseException:
            if store is not self._store and not store.has(brought.name):  # it was moved in
                self._store.remove(brought.name)
            raise

    def _enter(self, db: Session, owner: models.User, store: ProtocolStore, name: str) -> list[str]:
        """Which versions are new."""
        before = _versions(db, name)
        service.take_in(
            db,
            self._store,
            owner,
            name,
            pushed=None if store is self._store else store,
            accept=lambda owner, size: quotas.claim_storage(db, owner, size),
        )
        return [each for each in _versions(db, name) if each not in before]

    def _push(self, repository: Path, name: str, read: Callable[[int], bytes], rewrite: bool) -> None:
        section = self._section
        bounds = smart.Bounds(
            section.git_seconds, section.git_memory_bytes, section.max_push_bytes, section.max_push_objects
        )
        with smart.pushed(repository, name, read, bounds, rewrite=rewrite) as answer:
            _require(smart.verdict(answer.read()))


def changes_to(store: ProtocolStore, brought: Brought) -> tuple[list[Change], list[str]]:
    """What is to be moved, and what people are told of what is not."""
    refs = store.refs(brought.name)
    versions = store.versions(brought.name)
    changes, notes = [], []
    for ref, commit in brought.refs.items():
        here = refs.get(MAIN) if ref == MAIN else versions.get(ref.removeprefix(TAG))
        if ref == MAIN and here != commit:
            changes.append(Change(here or NOTHING, commit, ref))
        elif ref != MAIN and here is None:
            changes.append(Change(NOTHING, commit, ref))
        elif here != commit:
            notes.append(
                f"The version {ref.removeprefix(TAG)} is another one here, and stays: versions never change."
            )
    return changes, notes


def _require(verdict: smart.Verdict) -> None:
    """`FetchFailed` unless every ref has moved."""
    if not verdict.refused:
        return
    if NOT_FAST_FORWARD in verdict.refused.get(MAIN, ""):
        raise FetchFailed(
            "The branch does not go on from what was imported before: its history was rewritten. If that is "
            "meant, ask for it ('rewrite'); versions that are here stay."
        )
    if "unpack" in verdict.refused:
        said = " ".join(verdict.said) or verdict.refused["unpack"]
        raise FetchFailed(f"Git finds it unsound, so nothing was taken in: {said}")
    reasons = [f"{ref.removeprefix(TAG)}: {why}" for ref, why in verdict.refused.items()]
    raise FetchFailed("\n".join(verdict.said or reasons))


def _spooled(stream: Stream, file: BinaryIO, limit: int) -> int:
    size = 0
    while piece := stream.read(CHUNK):
        size += len(piece)
        if size > limit:
            raise FetchFailed(f"It is larger than the {limit:,} bytes that may be imported.")
        file.write(piece)
    return size


def _after(head: bytes, file: BinaryIO) -> Callable[[int], bytes]:
    """Reads the head, then the file from its beginning."""
    file.seek(0)
    left = head

    def read(size: int) -> bytes:
        nonlocal left
        if left:
            piece, left = left[:size], left[size:]
            return piece
        return file.read(size)

    return read


def _versions(db: Session, name: str) -> list[str]:
    query = select(models.ProtocolVersion.version).join(models.Protocol).where(models.Protocol.name == name)
    return list(db.scalars(query.order_by(models.ProtocolVersion.created_at)))
