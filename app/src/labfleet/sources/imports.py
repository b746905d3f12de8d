"""Importing a protocol from a git repository: a source for it, made by itself, and a fetch of that.

Who imports the same address again has the same source fetched anew, so the same protocol gets new versions.
No function commits.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from sqlalchemy import select
from sqlalchemy.orm import Session

from labfleet.datasets.names import BadName, check_name
from labfleet.db.models import Fetch, Source, User
from labfleet.sources import fetches, service
from labfleet.sources.spec import Definition
from labfleet.sources.vault import Vault

HANDLER = "git"
DESCRIPTION = "A protocol that was imported."
MAX_NAME = 100


def ask(
    session: Session,
    user: User,
    parameters: Mapping[str, Any],
    *,
    given: Mapping[str, str] | None,
    vault: Vault,
    kept: int,
) -> Fetch:
    """Have a protocol imported; the fetch, or the one of the same address that is under way.

    `parameters` are those of the handler. `given` credentials take the place of earlier ones, None leaves
    them. `InvalidSource` says what is wrong.
    """
    definition = Definition(handler=HANDLER, parameters=dict(parameters))
    source = _known(session, user, str(parameters.get("url")))
    if source is None:
        name = _name(session, user, str(parameters.get("url")))
        source = service.add_source(
            session,
            user,
            name,
            definition,
            description=DESCRIPTION,
            lifetime_seconds=0,
            given=given,
            vault=vault,
        )
    else:
        service.change_source(session, user, source.id, definition=definition, given=given, vault=vault)
    return fetches.ask(session, user, source.id, anew=True, kept=kept)[0]


def _known(session: Session, user: User, url: str) -> Source | None:
    """The user's own source of this address."""
    query = select(Source).where(
        Source.owner_id == user.id,
        Source.definition["handler"].astext == HANDLER,
        Source.definition["parameters"]["url"].astext == url,
    )
    return session.scalars(query.order_by(Source.created_at).limit(1)).one_or_none()


def _name(session: Session, user: User, url: str) -> str:
    """What the source is called: as the end of its address, with a number where that is taken."""
    last = PurePosixPath(unquote(urlsplit(url).path)).name.removesuffix(".git")[:MAX_NAME]
    try:
        name = check_name(last)
    except BadName:
        name = "protocol"
    taken = set(session.scalars(select(Source.name).where(Source.owner_id == user.id)))
    number = 1
    while (free := name if number == 1 else f"{name} {number}") in taken:
        number += 1
    return free
