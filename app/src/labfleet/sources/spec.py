"""What a source says: its handler with parameters, the format that comes, and what is made of it.

`Definition` is the form of what is kept and of what the API takes; what a handler's parameters may be is for
the handler's own schema.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Column = Annotated[str, Field(min_length=1, max_length=500)]
ColumnType = Literal["text", "whole number", "number", "yes or no", "date", "date and time"]
Comparison = Literal["=", "!=", "<", "<=", ">", ">=", "contains", "one of", "missing", "given"]
Value = str | int | float | bool
Format = Literal["auto", "csv", "excel", "json", "parquet", "file", "protocol"]


class Part(BaseModel):
    """A part of a definition; an unknown field is an error."""

    model_config = ConfigDict(extra="forbid")


class Condition(Part):
    """Which rows stay. `missing` and `given` take no value, `one of` takes a list."""

    column: Column
    is_: Annotated[Comparison, Field(alias="is")]
    value: Value | Annotated[list[Value], Field(min_length=1, max_length=1000)] | None = None

    @model_validator(mode="after")
    def _value_fits(self) -> Condition:
        if self.is_ in {"missing", "given"}:
            if self.value is not None:
                raise ValueError(f"'{self.is_}' takes no value")
        elif (self.is_ == "one of") != isinstance(self.value, list):
            raise ValueError("'one of' takes a list of values, the others take one value")
        elif self.value is None:
            raise ValueError(f"'{self.is_}' needs a value")
        return self


class Long(Part):
    """Columns become rows, all but those of `keep`: names go into one column, values into another."""

    keep: Annotated[list[Column], Field(max_length=1000)] = []
    names: Column = "feature"
    values: Column = "value"


class Wide(Part):
    """Rows become columns: one for each value of the column `names`, filled from the column `values`."""

    names: Column = "feature"
    values: Column = "value"


class Step(Part):
    """One step of a transformation: exactly one of these."""

    rename: Annotated[dict[Column, Column], Field(min_length=1, max_length=1000)] | None = None
    keep: Annotated[list[Column], Field(min_length=1, max_length=1000)] | None = None
    drop: Annotated[list[Column], Field(min_length=1, max_length=1000)] | None = None
    cast: Annotated[dict[Column, ColumnType], Field(min_length=1, max_length=1000)] | None = None
    filter: Condition | None = None
    long: Long | None = None
    wide: Wide | None = None

    @model_validator(mode="after")
    def _one_verb(self) -> Step:
        if len(self.model_fields_set) != 1:
            verbs = ", ".join(type(self).model_fields)
            raise ValueError(f"a step is one of {verbs}, and not several of them")
        return self


class Definition(Part):
    """Where data is, and what is made of it: a Parquet table, with the format `file` the file itself, with
    `protocol` a protocol, which a handler for that brings."""

    handler: Annotated[str, Field(min_length=1, max_length=100)]
    parameters: dict[str, Any] = {}
    format: Format = "auto"
    sheet: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    transform: Annotated[list[Step], Field(max_length=50)] = []

    @model_validator(mode="after")
    def _steps_need_a_table(self) -> Definition:
        if self.format == "file" and (self.transform or self.sheet):
            raise ValueError("a file that is kept as it is has no sheet and no steps")
        if self.format == "protocol" and (self.transform or self.sheet):
            raise ValueError("a protocol has no sheet and no steps")
        return self

    def kept(self) -> dict[str, Any]:
        """As it stands in the database, and goes to the fetcher."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True) | {
            "handler": self.handler,
            "parameters": self.parameters,
            "format": self.format,
        }
