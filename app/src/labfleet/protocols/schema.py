"""Parameters: a JSON Schema 2020-12 judges itself, fills in defaults, and judges values.

References may only point into the same schema: reading a parameter must never open a file or a
connection.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import SchemaError, ValidationError
from referencing.exceptions import Unresolvable

HINT = "Write a JSON Schema (2020-12) of type object; see 'Writing a protocol' in the documentation."
MAX_FAULTS = 20
MAX_UNIT = 40
UNIT_HINT = f"a unit is a text of 1 to {MAX_UNIT} visible characters, for example mV or 1/min"


@dataclass(frozen=True)
class Fault:
    """What is wrong, and where in the value."""

    path: tuple[str | int, ...]
    message: str


def nothing() -> dict[str, Any]:
    """The schema of a protocol that takes no parameters."""
    return {"type": "object", "properties": {}, "additionalProperties": False}


def faults_of_schema(schema: dict[str, Any]) -> list[Fault]:
    """What keeps `schema` from being a usable schema of parameters; empty if nothing does."""
    if schema.get("type") != "object":
        return [Fault(("type",), "must be 'object': parameters are named values")]
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        return [Fault(tuple(error.absolute_path), _message(error))]
    return [*_foreign_references(schema, ()), *_bad_defaults(schema), *_bad_units(schema)]


def is_unit(value: object) -> bool:
    """Whether this may be the unit of a parameter or of a column."""
    return (
        isinstance(value, str)
        and value == value.strip()
        and value.isprintable()
        and 0 < len(value) <= MAX_UNIT
    )


def unit_of(property_: Mapping[str, Any]) -> str:
    """The unit of a parameter; nothing where none is said."""
    unit = property_.get("unit")
    return str(unit) if is_unit(unit) else ""


def with_defaults(schema: dict[str, Any], parameters: dict[str, Any]) -> dict[str, Any]:
    """A copy of `parameters` in which each property left out has its default, at every level of objects."""
    filled = copy.deepcopy(parameters)
    properties = schema.get("properties")
    for name, property_ in (properties if isinstance(properties, dict) else {}).items():
        if not isinstance(property_, dict):
            continue
        if name not in filled and "default" in property_:
            filled[name] = copy.deepcopy(property_["default"])
        if isinstance(filled.get(name), dict):
            filled[name] = with_defaults(property_, filled[name])
    return filled


def faults_of_value(schema: dict[str, Any], parameters: Any) -> list[Fault]:
    """How `parameters` (defaults filled in) fail the schema, at most `MAX_FAULTS` of it."""
    validator = Draft202012Validator(schema, format_checker=_formats())
    faults = []
    for error in validator.iter_errors(parameters):
        faults.append(Fault(tuple(error.absolute_path), _message(error)))
        if len(faults) == MAX_FAULTS:
            break
    return sorted(faults, key=lambda fault: [str(part) for part in fault.path])


@cache
def _formats() -> FormatChecker:
    return cast(FormatChecker, Draft202012Validator.FORMAT_CHECKER)


def _message(error: SchemaError | ValidationError) -> str:
    text = str(error.message)
    return text if len(text) <= 300 else f"{text[:300]}…"


def _foreign_references(value: Any, path: tuple[str | int, ...]) -> Iterator[Fault]:
    if isinstance(value, dict):
        for key, child in value.items():
            if key in {"$ref", "$dynamicRef"} and isinstance(child, str) and not child.startswith("#"):
                yield Fault((*path, key), f"'{child}' points outside the schema; only '#/…' is allowed")
            yield from _foreign_references(child, (*path, key))
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from _foreign_references(child, (*path, index))


def _bad_units(schema: dict[str, Any]) -> Iterator[Fault]:
    """`unit` is our own word in a property; JSON Schema takes any other."""
    for name, property_ in schema.get("properties", {}).items():
        if isinstance(property_, dict) and "unit" in property_ and not is_unit(property_["unit"]):
            yield Fault(("properties", name, "unit"), UNIT_HINT)


def _bad_defaults(schema: dict[str, Any]) -> Iterator[Fault]:
    """A default that its own property refuses would make every submission fail."""
    for name, property_ in schema.get("properties", {}).items():
        if not isinstance(property_, dict) or "default" not in property_:
            continue
        validator = Draft202012Validator(schema).evolve(schema=property_)
        try:
            for error in validator.iter_errors(property_["default"]):
                yield Fault(("properties", name, "default"), _message(error))
        except Unresolvable as error:
            yield Fault(("properties", name), f"a reference leads nowhere: {error}")
