"""Which handlers there are: those that ship, and a lab's own, which come as entry points of wheels.

A lab's own is imported only where it is used or told of, in the process that fetches, after that has given up
what it may not do. One that can't be used takes no other with it.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

from labfleet.fetching.handlers.base import Handler
from labfleet.fetching.handlers.folder import Folder
from labfleet.fetching.handlers.git import Git
from labfleet.fetching.handlers.http import END, Http
from labfleet.fetching.handlers.mariadb import Mariadb
from labfleet.fetching.handlers.postgresql import Postgresql
from labfleet.fetching.handlers.s3 import S3
from labfleet.log import get_logger

_log = get_logger(__name__)
GROUP = "labfleet.source_handlers"
"""Entry points of this group are a lab's own handlers, by the names that sources use."""
NAME = re.compile(f"[a-z][a-z0-9-]{{0,49}}{END}")
SHIPPED: dict[str, type[Handler]] = {
    "http": Http,
    "folder": Folder,
    "s3": S3,
    "postgresql": Postgresql,
    "mariadb": Mariadb,
    "git": Git,
}


class Unusable(Exception):
    """A lab's own handler can't be used; the message says why."""


def known() -> dict[str, type[Handler]]:
    """The handlers by the names that sources use; what can't be used is left out, and told in the journal."""
    found = dict(SHIPPED)
    for point in _own():
        try:
            found[point.name] = _loaded(point, set(found))
        except Unusable as error:
            _log.error("a handler of sources can't be used", handler=point.name, error=str(error))
    return found


def handler_of(name: str) -> type[Handler] | None:
    """The handler of this name, if there is one; `Unusable` if it is broken. No other one is imported."""
    if name in SHIPPED:
        return SHIPPED[name]
    points = [point for point in _own() if point.name == name]
    return _loaded(points[0], set(SHIPPED)) if points else None


def faults() -> dict[str, str]:
    """What is wrong with handlers of the lab's own, by their names; an empty text: nothing."""
    found: dict[str, str] = {}
    for point in _own():
        try:
            _loaded(point, {*SHIPPED, *found})
            found[point.name] = ""
        except Unusable as error:
            found[point.name] = str(error)
    return found


def _own() -> list[EntryPoint]:
    return sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value))


def _loaded(point: EntryPoint, taken: set[str]) -> type[Handler]:
    if point.name in taken:
        raise Unusable(f"there is a handler '{point.name}' already: give it another name")
    if not NAME.match(point.name):
        raise Unusable("its name is to have small letters, digits and hyphens, and begin with a letter")
    try:
        handler = point.load()
        described = handler.described() if _is_handler(handler) else None
    except Exception as error:  # it is somebody else's code
        raise Unusable(f"{point.value} can't be imported: {type(error).__name__}: {error}") from None
    if described is None:
        raise Unusable(f"{point.value} is no class of labfleet.fetching.handlers.base.Handler with a fetch()")
    _check(described)
    loaded: type[Handler] = handler
    return loaded


def _is_handler(found: Any) -> bool:
    return inspect.isclass(found) and issubclass(found, Handler) and not inspect.isabstract(found)


def _check(described: Mapping[str, Any]) -> None:
    """What forms, the API and the database need of a handler."""
    try:
        json.dumps(described)
    except TypeError as error:
        raise Unusable(f"what it says of itself is no JSON: {error}") from None
    for name in ("title", "description"):
        if not isinstance(described[name], str) or not described[name]:
            raise Unusable(f"'{name}' is to be a text")
    for name in ("parameters", "credentials"):
        schema = described[name]
        try:
            Draft202012Validator.check_schema(schema)
        except SchemaError as error:
            raise Unusable(f"'{name}' is no JSON Schema: {error.message}") from None
        untitled = [key for key, value in schema.get("properties", {}).items() if "title" not in value]
        if schema.get("type") != "object" or schema.get("additionalProperties") is not False or untitled:
            raise Unusable(
                f"'{name}' is to be the schema of an object with \"additionalProperties\": False, and each "
                f"property with a title ({', '.join(untitled) or 'they have'})"
            )
    strange = set(described["place"]) - set(described["parameters"]["properties"])
    if strange:
        raise Unusable(f"'place' names parameters that there are not: {', '.join(sorted(strange))}")
    if described["credentials"].get("properties") and not described["place"]:
        raise Unusable(
            "it takes credentials: 'place' is to name the parameters that say to whom they are shown"
        )
    if described["protocol"]:
        raise Unusable("'protocol' is for the handler 'git' only")
