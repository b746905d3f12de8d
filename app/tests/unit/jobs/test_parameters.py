from __future__ import annotations

from typing import Any

import pytest

from labfleet.errors import InvalidInputs, InvalidParameters
from labfleet.jobs.parameters import checked_parameters, checked_slots

MANIFEST: dict[str, Any] = {
    "parameters": {
        "type": "object",
        "properties": {
            "genes": {"type": "integer", "minimum": 2, "default": 50},
            "method": {"enum": ["cor", "mi"], "default": "cor"},
            "plot": {
                "type": "object",
                "properties": {"dpi": {"type": "integer", "default": 96}},
                "default": {},
            },
            "label": {"type": "string"},
        },
        "required": ["genes"],
        "additionalProperties": False,
    },
    "inputs": {"expression": {"title": "Expression"}, "classes": {"optional": True}},
}


def test_defaults_are_filled_in_at_any_depth() -> None:
    assert checked_parameters(MANIFEST, {}) == {"genes": 50, "method": "cor", "plot": {"dpi": 96}}
    assert checked_parameters(MANIFEST, {"plot": {"dpi": 300}})["plot"] == {"dpi": 300}


def test_what_was_given_stays_untouched() -> None:
    given: dict[str, Any] = {"plot": {}}
    checked_parameters(MANIFEST, given)
    assert given == {"plot": {}}
    checked_parameters(MANIFEST, {})["plot"]["dpi"] = 1
    assert checked_parameters(MANIFEST, {})["plot"]["dpi"] == 96


def test_every_misfit_is_named_with_its_path() -> None:
    with pytest.raises(InvalidParameters) as caught:
        checked_parameters(MANIFEST, {"genes": 1, "plot": {"dpi": "high"}, "colour": 1})
    errors = {error["path"]: error["message"] for error in caught.value.extra["errors"]}
    assert set(errors) == {"parameters", "parameters/genes", "parameters/plot/dpi"}
    assert "colour" in errors["parameters"]
    assert "parameters/genes: 1 is less than the minimum of 2" in caught.value.detail


def test_a_protocol_without_parameters_takes_none() -> None:
    assert checked_parameters({}, {}) == {}
    with pytest.raises(InvalidParameters):
        checked_parameters({}, {"x": 1})


def test_slots_that_are_needed_and_known_pass() -> None:
    checked_slots(MANIFEST, {"expression": "x"})
    checked_slots(MANIFEST, {"expression": "x", "classes": "y"})
    checked_slots({}, {})


def test_an_unknown_or_missing_slot_is_named() -> None:
    with pytest.raises(InvalidInputs, match=r"no input slot 'genes'; its slots: classes, expression"):
        checked_slots(MANIFEST, {"genes": "x", "expression": "y"})
    with pytest.raises(InvalidInputs, match="needs a dataset for the input slot 'expression'"):
        checked_slots(MANIFEST, {})
