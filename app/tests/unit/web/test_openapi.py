"""The OpenAPI document: what is kept is what is served, and it is complete."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel

from labfleet.web import openapi

KEPT = Path(__file__).parents[4] / "docs/api/openapi.json"
METHODS = openapi.METHODS


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    made: dict[str, Any] = json.loads(openapi.document())
    return made


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (method, path, operation)
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method in METHODS
    ]


def test_the_kept_document_is_the_served_one() -> None:
    told = f"Run: python -m labfleet.web {KEPT}"
    assert KEPT.read_text(encoding="utf-8") == openapi.document(), told


def test_it_is_openapi_31_with_the_packages_version(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1.")
    assert document["info"]["version"]
    assert document["info"]["license"]["identifier"] == "Apache-2.0"


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    names = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
    assert names <= set(document["components"]["schemas"])
    assert not any("." in name for name in names)


def test_no_two_schemas_share_a_name() -> None:
    """The document keeps one of them, and tells of the other's answers what is not true."""
    ours = {kind for kind in below(BaseModel) if kind.__module__.startswith("labfleet.web.api")}
    names = [kind.__name__ for kind in ours]
    assert {name for name in names if names.count(name) > 1} == set()
    assert len(ours) > 100


def below(kind: type) -> Iterator[type]:
    for inner in kind.__subclasses__():
        yield inner
        yield from below(inner)


def test_every_schema_is_a_schema(document: dict[str, Any]) -> None:
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_every_operation_has_a_name_a_summary_and_told_errors(document: dict[str, Any]) -> None:
    found = operations(document)
    names = [operation["operationId"] for _, _, operation in found]
    assert len(names) == len(set(names))
    for _, _, operation in found:
        assert operation["summary"]
        assert "application/problem+json" in operation["responses"]["default"]["content"]
        assert any(status.startswith("2") for status in operation["responses"])


def test_who_may_ask(document: dict[str, Any]) -> None:
    public = {path for _, path, operation in operations(document) if not operation.get("security")}
    assert public == {"/api/v1/login", "/api/v1/health", "/api/v1/ready"}
    schemes = {
        path: name
        for _, path, operation in operations(document)
        for entry in operation.get("security", [])
        for name in entry
    }
    assert all((name == "attempt") == ("/attempts/" in path) for path, name in schemes.items())


def test_path_parameters_are_told(document: dict[str, Any]) -> None:
    for _, path, operation in operations(document):
        told = {item["name"] for item in operation["parameters"] if item["in"] == "path"}
        assert told == set(re.findall(r"{(\w+)}", path))


def test_the_command_writes_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert openapi.main([str(tmp_path / "out.json")]) == 0
    assert openapi.main([]) == 0
    assert capsys.readouterr().out == (tmp_path / "out.json").read_text(encoding="utf-8")
