"""Sources: where data comes from. They are made, changed, shared and deleted here; `fetches` fetches them.

No function commits. What a viewer may not see is `UnknownSource` (`labfleet.sources.access`).
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from jsonschema import Draft202012Validator
from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, joinedload, selectinload

from labfleet.datasets.names import check_name
from labfleet.db.models import Source, SourceHandler, User
from labfleet.errors import InvalidSource, SourceExists
from labfleet.sources import access, credentials
from labfleet.sources.spec import Definition
from labfleet.sources.vault import Vault
from labfleet.users import audit
from labfleet.users.audit import Action

Json = dict[str, Any]
PROTOCOL = "protocol"
"""The format of sources that bring protocols."""
NO_CREDENTIALS: Json = {"type": "object", "maxProperties": 0}


def add_source(
    session: Session,
    owner: User,
    name: str,
    definition: Definition,
    *,
    description: str = "",
    lifetime_seconds: int,
    given: Mapping[str, str] | None = None,
    vault: Vault | None = None,
) -> Source:
    """Make a source; nothing is fetched yet. `InvalidSource` names what is wrong with it.

    `given` are its credentials, which `vault` seals.
    """
    check_name(name)
    handler = check_definition(session, definition)
    _check_free(session, owner.id, name)
    source = Source(
        owner_id=owner.id,
        name=name,
        description=description,
        definition=kept(handler, definition),
        lifetime_seconds=lifetime_seconds,
    )
    session.add(source)
    session.flush()
    if given and vault:
        _keep_credentials(session, vault, source, handler, given)
    return source


def change_source(
    session: Session,
    viewer: User,
    source_id: uuid.UUID,
    *,
    name: str | None = None,
    description: str | None = None,
    definition: Definition | None = None,
    lifetime_seconds: int | None = None,
    given: Mapping[str, str] | None = None,
    vault: Vault | None = None,
) -> Source:
    """Change what is named. With another definition, what was fetched before is not good any more.

    `given` take the place of its credentials, none at all takes them away; those that stay are shown to
    nobody else than before (`InvalidSource`).
    """
    source = access.to_change(session, viewer, source_id)
    if name is not None and name != source.name:
        check_name(name)
        _check_free(session, source.owner_id, name)
        source.name = name
    if definition is not None:
        _redefine(session, source, definition, given)
    if description is not None:
        source.description = description
    if lifetime_seconds is not None:
        source.lifetime_seconds = lifetime_seconds
    session.flush()
    if given is not None and vault:
        handler = get_handler(session, source.definition["handler"])
        _keep_credentials(session, vault, source, handler, given)
        source.changed_at = func.clock_timestamp()
        session.flush()
    return source


def _redefine(
    session: Session, source: Source, definition: Definition, given: Mapping[str, str] | None
) -> None:
    handler = check_definition(session, definition)
    after = kept(handler, definition)
    if after == source.definition:
        return
    if given is None:
        credentials.check_place(source, handler, source.definition, after)
    source.definition = after
    source.changed_at = func.clock_timestamp()


def delete_source(session: Session, viewer: User, source_id: uuid.UUID) -> None:
    """Delete the source with the list of its fetches; datasets that were made of it stay."""
    source = access.to_change(session, viewer, source_id)
    audit.record(session, Action.SOURCE_DELETED, str(source.id), name=source.name, owner=source.owner.name)
    session.execute(delete(Source).where(Source.id == source.id))


def list_sources(session: Session, viewer: User) -> Sequence[Source]:
    """The sources that the viewer may see, his own first, by name."""
    statement = (
        select(Source)
        .options(
            joinedload(Source.owner, innerjoin=True),
            joinedload(Source.credentials),
            selectinload(Source.shares),
        )
        .where(access.visible_to(viewer))
        .order_by(Source.owner_id != viewer.id, Source.name, Source.id)
    )
    return session.scalars(statement).all()


def handlers(session: Session) -> dict[str, Json]:
    """The handlers of this lab by name, each with title, description and schemas."""
    rows = session.scalars(select(SourceHandler).order_by(SourceHandler.name))
    return {row.name: _in_order(row.described) for row in rows}


def _in_order(described: Json) -> Json:
    """With the properties of its schemas as the handler has them."""
    places = {name: place for place, name in enumerate(described.get("order", []))}

    def ordered(schema: Json) -> Json:
        found = schema.get("properties", {})
        names = sorted(found, key=lambda name: places.get(name, 0))
        return {**schema, "properties": {name: found[name] for name in names}}

    return {
        **described,
        "parameters": ordered(described["parameters"]),
        "credentials": ordered(described.get("credentials", {})),
    }


def put_handlers(session: Session, described: Mapping[str, Json]) -> None:
    """Note which handlers the fetcher has."""
    session.execute(delete(SourceHandler).where(SourceHandler.name.not_in(described)))
    for name, what in sorted(described.items()):
        again = {"described": what, "seen_at": func.clock_timestamp()}
        statement = insert(SourceHandler).values(name=name, described=what)
        session.execute(statement.on_conflict_do_update(index_elements=[SourceHandler.name], set_=again))


def check_definition(session: Session, definition: Definition) -> Json:
    """The handler as it is described; `InvalidSource` unless there is one, and the parameters fit it."""
    described = get_handler(session, definition.handler)
    check_against(described["parameters"], definition.parameters, "parameters")
    if described.get("protocol", False):
        fitting = definition.format in {"auto", PROTOCOL} and not definition.transform
        message = "this handler brings protocols: leave format and transform out"
    else:
        fitting = definition.format != PROTOCOL
        message = "this handler brings data, no protocols; the handler 'git' does"
    if not fitting:
        raise InvalidSource([{"path": "format", "message": message}])
    return described


def kept(handler: Json, definition: Definition) -> Json:
    """The definition as the database keeps it."""
    format_ = {"format": PROTOCOL} if handler.get("protocol") else {}
    return definition.kept() | format_


def get_handler(session: Session, name: str) -> Json:
    """What the handler says of itself; `InvalidSource` if there is none."""
    found = session.get(SourceHandler, name)
    if found is None:
        known = ", ".join(session.scalars(select(SourceHandler.name).order_by(SourceHandler.name)))
        message = f"there is no handler '{name}'; there are: {known or 'none'}"
        raise InvalidSource([{"path": "handler", "message": message}])
    return found.described


def _keep_credentials(
    session: Session, vault: Vault, source: Source, handler: Json, given: Mapping[str, str]
) -> None:
    if given:
        check_against(handler.get("credentials") or NO_CREDENTIALS, given, "credentials")
    credentials.put(session, vault, source, handler, given)


def check_against(schema: Json, given: Mapping[str, Any], path: str) -> None:
    """Raise `InvalidSource` with every place that doesn't fit the schema. It never quotes what was given."""
    problems = sorted(
        Draft202012Validator(schema).iter_errors(dict(given)),
        key=lambda problem: list(map(str, problem.path)),
    )
    if problems:
        raise InvalidSource(
            [
                {
                    "path": "/".join([path, *map(str, each.absolute_path)]),
                    "message": _misfit(each.message, each),
                }
                for each in problems
            ]
        )


def _misfit(message: str, problem: Any) -> str:
    """What is wrong, without the value."""
    if problem.validator == "pattern":
        return "it is not written as it must be"
    if problem.validator in {"required", "additionalProperties", "dependentRequired"}:
        return message
    if problem.validator == "oneOf":
        names = [repr(name) for branch in problem.validator_value for name in branch.get("required", [])]
        return f"one of {', '.join(names)} must be given, and only one"
    return f"it must fit {problem.validator}: {problem.validator_value}"


def _check_free(session: Session, owner: uuid.UUID, name: str) -> None:
    taken = select(Source.id).where(Source.owner_id == owner, Source.name == name)
    if session.scalar(taken) is not None:
        raise SourceExists(f"There is a source '{name}' already.")
