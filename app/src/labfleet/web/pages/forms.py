"""A form from a protocol's parameter schema, and parameters from what was filled in."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from labfleet.protocols.schema import unit_of

Schema = Mapping[str, Any]
PREFIX = "p-"
SWEEP = "s-"
# In one field; how many tasks a job may have is for `labfleet.jobs` to say.
MAX_VALUES = 10_000
RANGE = re.compile(r"([-+.0-9eE]+):([-+.0-9eE]+):([-+.0-9eE]+)")
Grid = dict[str, list[Any]]


@dataclass(frozen=True)
class Field:
    """One parameter or input slot as a form shows it; `value` is always text."""

    id: str
    name: str
    label: str
    help: str
    kind: str
    required: bool
    value: str = ""
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    step: str = "any"
    unit: str = ""
    accept: str = ""
    error: str = ""
    many: str = ""
    """Several values for it, of which each becomes a task, as they were typed."""
    chosen: tuple[str, ...] = ()
    """Of an input slot: several datasets, of which each becomes a task."""

    @property
    def sweeps(self) -> bool:
        """Whether several values can be given."""
        return self.kind in {"number", "select", "text"}

    @property
    def range(self) -> str:
        """Which numbers are taken, in words."""
        low, high = self.minimum, self.maximum
        unit = f" {self.unit}" if self.unit else ""
        if self.kind != "number" or (low is None and high is None):
            return ""
        if low is None:
            return f"At most {high:g}{unit}."
        return f"At least {low:g}{unit}." if high is None else f"{low:g} to {high:g}{unit}."


def fields_of(schema: Schema, values: Mapping[str, Any] | None = None) -> list[Field]:
    """A field for each property. `values` go before the defaults."""
    required = schema.get("required", [])
    properties: Mapping[str, Any] = schema.get("properties", {})
    return [
        _field(name, part if isinstance(part, Mapping) else {}, name in required, values or {})
        for name, part in properties.items()
    ]


def _field(name: str, schema: Schema, required: bool, values: Mapping[str, Any]) -> Field:
    kind = _kind(schema)
    default = values.get(name, schema.get("default"))
    number = kind == "number"
    return Field(
        id=PREFIX + name,
        name=name,
        label=str(schema.get("title", name)),
        help=str(schema.get("description", "")),
        kind=kind,
        required=required and "default" not in schema,
        value=_text(default, kind),
        choices=tuple(_choice(item) for item in schema.get("enum", [])),
        minimum=schema.get("minimum") if number else None,
        maximum=schema.get("maximum" if number else "maxLength"),
        step="1" if _type(schema) == "integer" else "any",
        unit=unit_of(schema),
    )


def _type(schema: Schema) -> str:
    kinds = schema.get("type", "")
    if isinstance(kinds, list):  # ["integer", "null"]: an empty field leaves it out
        kinds = next((kind for kind in kinds if kind != "null"), "")
    return str(kinds)


def _kind(schema: Schema) -> str:
    if "enum" in schema:
        return "select"
    if _type(schema) == "array" and _type(schema.get("items") or {}) in {"string", "integer", "number"}:
        return "lines"
    kinds = {"boolean": "checkbox", "integer": "number", "number": "number", "string": "text"}
    return kinds.get(_type(schema), "json")


def _choice(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _text(value: Any, kind: str) -> str:
    if value is None:
        return ""
    if kind == "lines" and isinstance(value, list):
        return "\n".join(_choice(item) for item in value)
    if kind == "json":
        return json.dumps(value, indent=1, ensure_ascii=False)
    return _choice(value)


def read_form(schema: Schema, given: Mapping[str, str]) -> tuple[dict[str, Any], list[Field]]:
    """Parameters from a filled form, and the fields again, with `error` where a text can't be read.

    An empty field is left out, so that the default counts. Whether the values fit the schema is for
    `labfleet.jobs` to say.
    """
    parameters: dict[str, Any] = {}
    fields = []
    for field in fields_of(schema):
        text = given.get(field.id, "")
        part = schema["properties"][field.name]
        field = replace(field, value=text)  # noqa: PLW2901 - the same field, filled in
        try:
            value = _value(field, part if isinstance(part, Mapping) else {}, text)
        except ValueError as error:
            field = replace(field, error=str(error))  # noqa: PLW2901
        else:
            if value is not None:
                parameters[field.name] = value
        fields.append(field)
    return parameters, fields


def read_sweep(schema: Schema, fields: list[Field], given: Mapping[str, str]) -> tuple[Grid, list[Field]]:
    """The values of fields that were given several (`s-NAME`), and the fields again, with any `error`."""
    grid: Grid = {}
    read = []
    for field in fields:
        text = given.get(SWEEP + field.name, "").strip()
        if field.sweeps and text:
            try:
                grid[f"parameters.{field.name}"] = _several(field, schema["properties"][field.name], text)
                field = replace(field, many=text)  # noqa: PLW2901 - the same field, filled in
            except ValueError as error:
                field = replace(field, many=text, error=str(error))  # noqa: PLW2901
        read.append(field)
    return grid, read


def _several(field: Field, schema: Schema, text: str) -> list[Any]:
    parts = [part.strip() for line in text.splitlines() for part in line.split(",") if part.strip()]
    if field.kind == "number" and len(parts) == 1 and (spread := RANGE.fullmatch(parts[0])):
        return _spread(*map(float, spread.groups()), whole=_type(schema) == "integer")
    if len(parts) > MAX_VALUES:
        raise ValueError(f"These are more than {MAX_VALUES} values.")
    values = [_value(field, schema, part) for part in parts]
    if len({_choice(value) for value in values}) < len(values):
        raise ValueError("A value is there twice.")
    return values


def _spread(first: float, last: float, step: float, *, whole: bool) -> list[Any]:
    if not all(map(math.isfinite, (first, last, step))) or step <= 0 or last < first:
        raise ValueError("Write a range as FIRST:LAST:STEP, for example 10:60:10.")
    count = math.floor((last - first) / step + 1e-9) + 1
    if count > MAX_VALUES:
        raise ValueError(f"These are more than {MAX_VALUES} values.")
    values = [float(f"{first + index * step:.12g}") for index in range(count)]
    if whole and any(value != int(value) for value in values):
        raise ValueError("The range has values that are no whole numbers.")
    return [int(value) for value in values] if whole else values


def with_sweep(fields: list[Field], sweep: Mapping[str, list[Any]]) -> list[Field]:
    """The fields with several values as a saved `sweep` has them."""
    return [
        replace(field, many=", ".join(_choice(value) for value in sweep[f"parameters.{field.name}"]))
        if f"parameters.{field.name}" in sweep
        else field
        for field in fields
    ]


def _value(field: Field, schema: Schema, text: str) -> Any:
    if field.kind == "checkbox":
        return text == "true"
    if field.kind == "lines":
        read = _SCALARS.get(_type(schema["items"]), str)
        return [read(line.strip()) for line in text.splitlines() if line.strip()]
    if text.strip() == "":
        return None
    if field.kind == "select":
        return _chosen(schema["enum"], text)
    if field.kind == "json":
        return _json(text)
    return _SCALARS.get(_type(schema), str)(text)


def _chosen(options: list[Any], text: str) -> Any:
    for option in options:
        if _choice(option) == text:
            return option
    raise ValueError("Choose one of the list.")


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"'{text[:40]}' is no whole number.") from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"'{text[:40]}' is no number.") from None


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("This is no JSON.") from None


_SCALARS: dict[str, Callable[[str], Any]] = {"integer": _integer, "number": _number, "string": str}


def with_errors(fields: list[Field], errors: list[dict[str, str]]) -> list[Field]:
    """The fields with what `InvalidParameters` says of each."""
    told = {error["path"].split("/")[1]: error["message"] for error in errors if "/" in error["path"]}
    return [replace(field, error=told.get(field.name, field.error)) for field in fields]


def slots_of(
    inputs: Mapping[str, Mapping[str, Any]],
    values: Mapping[str, Any],
    sweep: Mapping[str, list[Any]] | None = None,
) -> list[Field]:
    """A field for each input slot; `values` are slot → dataset id, `sweep` has several of them."""
    return [
        Field(
            id=f"i-{name}",
            name=name,
            label=slot.get("title") or name,
            help=slot.get("description", ""),
            kind="dataset",
            required=not slot.get("optional", False),
            value=str(values.get(name, "")),
            chosen=tuple(map(str, (sweep or {}).get(f"inputs.{name}", ()))),
            accept=",".join(f".{ending}" for ending in slot.get("formats", [])),
        )
        for name, slot in inputs.items()
    ]
