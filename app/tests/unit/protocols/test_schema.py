from __future__ import annotations

from typing import Any

import pytest

from labfleet.protocols.schema import MAX_FAULTS, faults_of_schema, faults_of_value, nothing, with_defaults

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "genes": {"type": "integer", "minimum": 3, "default": 50},
        "names": {"type": "array", "items": {"type": "string"}, "default": []},
        "plot": {"type": "object", "properties": {"width": {"type": "integer", "default": 7}}, "default": {}},
        "free": {"type": "string"},
    },
    "required": ["free"],
    "additionalProperties": False,
}


def test_defaults_fill_what_is_left_out() -> None:
    given = {"free": "x"}
    assert with_defaults(SCHEMA, given) == {"free": "x", "genes": 50, "names": [], "plot": {"width": 7}}
    assert given == {"free": "x"}


def test_defaults_leave_what_is_given_even_null() -> None:
    filled = with_defaults(SCHEMA, {"genes": None, "plot": {"width": 1}})
    assert filled["genes"] is None
    assert filled["plot"] == {"width": 1}


def test_defaults_are_copies() -> None:
    with_defaults(SCHEMA, {})["names"].append("x")
    assert with_defaults(SCHEMA, {})["names"] == []


def test_values_are_judged_by_path() -> None:
    faults = faults_of_value(SCHEMA, {"genes": 1, "names": ["a", 2], "more": 1})
    assert {fault.path for fault in faults} == {(), ("genes",), ("names", 1)}


def test_an_integer_is_no_boolean() -> None:
    assert faults_of_value(SCHEMA, {"free": "x", "genes": True})


def test_faults_are_not_endless() -> None:
    assert len(faults_of_value(SCHEMA, {"names": [1] * 1000})) == MAX_FAULTS


def test_long_messages_are_cut() -> None:
    (fault,) = faults_of_value(SCHEMA, {"free": "x", "genes": "y" * 10_000})
    assert len(fault.message) < 400


def test_no_parameters() -> None:
    assert not faults_of_schema(nothing())
    assert faults_of_value(nothing(), {"a": 1})


def test_references_within_the_schema() -> None:
    schema = {
        "type": "object",
        "$defs": {"n": {"type": "integer"}},
        "properties": {"a": {"$ref": "#/$defs/n"}},
    }
    assert not faults_of_schema(schema)
    assert faults_of_value(schema, {"a": "x"})


@pytest.mark.parametrize("unit", ["", " mV", "m\nV", "x" * 41, 5, None, ["mV"]])
def test_a_unit_is_a_short_text(unit: object) -> None:
    schema = {"type": "object", "properties": {"v": {"type": "number", "unit": unit}}}
    assert [fault.path for fault in faults_of_schema(schema)] == [("properties", "v", "unit")]


def test_a_good_unit() -> None:
    assert not faults_of_schema({"type": "object", "properties": {"v": {"type": "number", "unit": "µV/s²"}}})
