"""Forms from schemas, and parameters from forms."""

from __future__ import annotations

import pytest

from labfleet.web.pages.forms import fields_of, read_form, read_sweep, slots_of, with_errors, with_sweep

SCHEMA = {
    "type": "object",
    "required": ["genes", "words"],
    "properties": {
        "genes": {
            "type": "integer",
            "title": "Genes",
            "description": "How many",
            "minimum": 2,
            "maximum": 99,
        },
        "power": {"type": "number", "default": 2.5},
        "method": {"enum": ["pearson", "spearman", 3], "default": "pearson"},
        "directed": {"type": "boolean", "default": True},
        "name": {"type": "string", "maxLength": 9},
        "words": {"type": "array", "items": {"type": "string"}},
        "numbers": {"type": "array", "items": {"type": "integer"}},
        "deep": {"type": "object", "default": {"a": 1}},
        "maybe": {"type": ["integer", "null"]},
    },
}


def test_a_field_for_each_property() -> None:
    fields = {field.name: field for field in fields_of(SCHEMA)}
    assert {name: field.kind for name, field in fields.items()} == {
        "genes": "number",
        "power": "number",
        "method": "select",
        "directed": "checkbox",
        "name": "text",
        "words": "lines",
        "numbers": "lines",
        "deep": "json",
        "maybe": "number",
    }
    assert list(fields) == list(SCHEMA["properties"])
    genes = fields["genes"]
    assert (genes.label, genes.help, genes.minimum, genes.maximum, genes.step) == (
        "Genes",
        "How many",
        2,
        99,
        "1",
    )
    assert genes.required and not fields["power"].required
    assert fields["power"].value == "2.5" and fields["power"].step == "any"
    assert fields["method"].choices == ("pearson", "spearman", "3")
    assert fields["directed"].value == "true"


def test_values_of_an_earlier_job_go_before_defaults() -> None:
    fields = {field.name: field.value for field in fields_of(SCHEMA, {"power": 7, "words": ["a", "b"]})}
    assert (fields["power"], fields["words"]) == ("7", "a\nb")


def test_a_filled_form_gives_typed_parameters() -> None:
    parameters, fields = read_form(
        SCHEMA,
        {
            "p-genes": "50",
            "p-power": " 1.5",
            "p-method": "3",
            "p-words": "one\r\n\r\n two \n",
            "p-numbers": "1\n2",
            "p-deep": '{"a": [1]}',
            "p-name": "",
        },
    )
    assert parameters == {
        "genes": 50,
        "power": 1.5,
        "method": 3,
        "directed": False,
        "words": ["one", "two"],
        "numbers": [1, 2],
        "deep": {"a": [1]},
    }
    assert not any(field.error for field in fields)


@pytest.mark.parametrize(
    ("field", "text", "told"),
    [
        ("genes", "many", "no whole number"),
        ("genes", "1.5", "no whole number"),
        ("power", "x", "no number"),
        ("method", "kendall", "Choose"),
        ("numbers", "1\nx", "no whole number"),
        ("deep", "{", "no JSON"),
        ("deep", "[" * 100_000, "no JSON"),
    ],
)
def test_what_cannot_be_read_is_told_at_its_field(field: str, text: str, told: str) -> None:
    parameters, fields = read_form(SCHEMA, {f"p-{field}": text})
    assert field not in parameters
    (wrong,) = [item for item in fields if item.error]
    assert (wrong.name, wrong.value) == (field, text)
    assert told in wrong.error


def test_errors_of_the_schema_come_to_their_fields() -> None:
    errors = [{"path": "parameters/genes", "message": "too few"}, {"path": "parameters", "message": "odd"}]
    told = {field.name: field.error for field in with_errors(fields_of(SCHEMA), errors)}
    assert told["genes"] == "too few" and told["power"] == ""


def test_slots() -> None:
    slots = slots_of(
        {"table": {"title": "Table", "formats": ["csv", "tsv"]}, "extra": {"title": "", "optional": True}},
        {"table": "1234"},
    )
    assert [(slot.label, slot.required, slot.accept, slot.value) for slot in slots] == [
        ("Table", True, ".csv,.tsv", "1234"),
        ("extra", False, "", ""),
    ]


def test_a_protocol_without_parameters_has_no_fields() -> None:
    assert fields_of({"type": "object"}) == []
    assert read_form({"type": "object"}, {"p-x": "1"}) == ({}, [])


@pytest.mark.parametrize(
    ("name", "text", "values"),
    [
        ("genes", "10, 20\n30", [10, 20, 30]),
        ("genes", "10:60:10", [10, 20, 30, 40, 50, 60]),
        ("genes", "5", [5]),
        ("power", "0:0.3:0.1", [0.0, 0.1, 0.2, 0.3]),
        ("method", "pearson, 3", ["pearson", 3]),
        ("name", "a, b", ["a", "b"]),
    ],
)
def test_several_values_become_a_sweep(name: str, text: str, values: list[object]) -> None:
    grid, fields = read_sweep(SCHEMA, fields_of(SCHEMA), {f"s-{name}": text})
    assert grid == {f"parameters.{name}": values}
    assert [field.many for field in fields if field.many] == [text]
    shown = with_sweep(fields_of(SCHEMA), grid)
    assert read_sweep(SCHEMA, shown, {f"s-{field.name}": field.many for field in shown})[0] == grid


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("genes", "10, many", "no whole number"),
        ("genes", "0:1:0.5", "no whole numbers"),
        ("genes", "1:9:0", "FIRST:LAST:STEP"),
        ("genes", "9:1:1", "FIRST:LAST:STEP"),
        ("genes", "1:inf:1", "no whole number"),
        ("power", "0:1e9:1", "more than"),
        ("power", "1e999:2e999:1", "FIRST:LAST:STEP"),
        ("genes", "1, 1", "twice"),
        ("method", "kendall", "one of the list"),
    ],
)
def test_what_is_wrong_with_several_values_is_told(name: str, text: str, told: str) -> None:
    grid, fields = read_sweep(SCHEMA, fields_of(SCHEMA), {f"s-{name}": text})
    assert grid == {}
    (error,) = [field.error for field in fields if field.error]
    assert told in error


def test_several_values_are_for_single_values_only() -> None:
    given = {"s-words": "a, b", "s-directed": "true", "s-genes": "  "}
    assert read_sweep(SCHEMA, fields_of(SCHEMA), given)[0] == {}


def test_ranges_in_words() -> None:
    fields = {field.name: field for field in fields_of(SCHEMA)}
    assert (fields["genes"].range, fields["power"].range, fields["name"].range) == ("2 to 99.", "", "")


def test_a_field_tells_its_unit() -> None:
    (field,) = fields_of({"properties": {"v": {"type": "number", "unit": "mV", "minimum": 1, "maximum": 5}}})
    assert (field.unit, field.range) == ("mV", "1 to 5 mV.")
