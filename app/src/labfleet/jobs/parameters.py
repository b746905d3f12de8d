"""What a job asks for, checked against the interface that the protocol's manifest declares."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from labfleet.errors import InvalidInputs, InvalidParameters

Json = dict[str, Any]


def checked_parameters(manifest: Mapping[str, Any], given: Mapping[str, Any]) -> Json:
    """`given` with the schema's defaults filled in; `InvalidParameters` names every misfit."""
    schema = manifest.get("parameters") or {"type": "object", "additionalProperties": False}
    parameters = fill_defaults(schema, dict(given))
    problems = sorted(
        Draft202012Validator(schema).iter_errors(parameters), key=lambda e: list(map(str, e.path))
    )
    if problems:
        errors = [{"path": _path(problem), "message": problem.message} for problem in problems]
        raise InvalidParameters("; ".join(f"{e['path']}: {e['message']}" for e in errors), errors=errors)
    return parameters


def fill_defaults(schema: Mapping[str, Any], given: Json) -> Json:
    """A copy of `given` with the defaults of the schema's properties, at any depth."""
    filled = copy.deepcopy(given)
    for name, property_schema in schema.get("properties", {}).items():
        if not isinstance(property_schema, Mapping):
            continue
        if name not in filled and "default" in property_schema:
            filled[name] = copy.deepcopy(property_schema["default"])
        if isinstance(filled.get(name), dict):
            filled[name] = fill_defaults(property_schema, filled[name])
    return filled


def checked_slots(manifest: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Raise `InvalidInputs` for a slot that the protocol lacks, or a needed one that is not given."""
    slots: Mapping[str, Any] = manifest.get("inputs") or {}
    unknown = sorted(set(given) - set(slots))
    missing = sorted(n for n, slot in slots.items() if n not in given and not (slot or {}).get("optional"))
    if unknown:
        known = ", ".join(sorted(slots)) or "none"
        raise InvalidInputs(f"The protocol has no input slot {_names(unknown)}; its slots: {known}.")
    if missing:
        raise InvalidInputs(f"The protocol needs a dataset for the input slot {_names(missing)}.")


def _names(names: list[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _path(problem: ValidationError) -> str:
    return "/".join(["parameters", *map(str, problem.absolute_path)])
