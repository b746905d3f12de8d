"""What a source shows to where it fetches from: given by its owner, sealed, and told to nobody again.

No function commits. Only `labfleet loader` opens (`opened`); who fetches a source that is shared uses its
owner's credentials without seeing them.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, undefer

from labfleet.db.models import Source, SourceCredentials
from labfleet.errors import InvalidSource
from labfleet.fetching.handlers.base import FetchFailed
from labfleet.sealing import Unopened
from labfleet.sources.vault import Vault

Json = dict[str, Any]
MOVED = (
    "they were given for another address or account: give them again with this change, or take them away, so "
    "that they are shown to nobody else"
)


def put(session: Session, vault: Vault, source: Source, handler: Json, given: Mapping[str, str]) -> None:
    """Keep these instead of those that there were; none at all takes them away."""
    if not given:
        session.execute(delete(SourceCredentials).where(SourceCredentials.source_id == source.id))
        session.expire(source, ["credentials"])
        return
    what = source.definition
    told = {
        "sealed": vault.seal(source.id, what["handler"], place_of(handler, what["parameters"]), given),
        "names": sorted(given),
        "key": vault.key,
        "set_at": func.clock_timestamp(),
    }
    statement = insert(SourceCredentials).values(source_id=source.id, **told)
    session.execute(statement.on_conflict_do_update(index_elements=[SourceCredentials.source_id], set_=told))
    session.expire(source, ["credentials"])


def check_place(source: Source, handler: Json, before: Json, after: Json) -> None:
    """Raise `InvalidSource` if credentials that stay would lead elsewhere by this change of definition."""
    if source.credentials is None:
        return
    same = before["handler"] == after["handler"]
    if not same or place_of(handler, before["parameters"]) != place_of(handler, after["parameters"]):
        raise InvalidSource([{"path": "credentials", "message": MOVED}])


def place_of(handler: Json, parameters: Mapping[str, Any]) -> Json:
    """The parameters that say to whom credentials are shown."""
    return {name: parameters.get(name) for name in handler.get("place", [])}


def opened(vault: Vault, sealed: str | None, source: uuid.UUID, definition: Json) -> dict[str, str]:
    """For one fetch; none if there are none. `FetchFailed` if they can't be opened any more."""
    if sealed is None:
        return {}
    try:
        return vault.open(sealed, source, definition["handler"], definition["parameters"])
    except Unopened:
        raise FetchFailed(
            "Its credentials can't be read any more, for this Labfleet has another key now: give them again."
        ) from None


def renew(session: Session, vault: Vault) -> tuple[int, Sequence[uuid.UUID]]:
    """Seal with the first key what another one has sealed; how many, and sources that can't be opened."""
    rows = session.scalars(
        select(SourceCredentials)
        .where(SourceCredentials.key != vault.key)
        .options(undefer(SourceCredentials.sealed))
        .with_for_update(skip_locked=True)
    ).all()
    lost = []
    for row in rows:
        try:
            row.sealed, row.key = vault.renewed(row.sealed), vault.key
        except Unopened:
            lost.append(row.source_id)
    session.flush()
    return len(rows) - len(lost), lost
