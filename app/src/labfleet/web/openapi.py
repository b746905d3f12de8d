"""The OpenAPI 3.1 document, kept in docs/api/openapi.json by `python -m labfleet.web FILE`."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flask import current_app, json

from labfleet.web.api.schemas import DryRun

PROBLEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": "An error after RFC 9457, with a stable `code` and a `hint` of what to do.",
    "required": ["type", "title", "status", "detail", "code", "hint"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string"},
        "hint": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"path": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}
ERRORS = {
    "400": "The request can't be read",
    "401": "Sign in first",
    "403": "Not allowed",
    "404": "Not found",
    "409": "Not possible in this state",
    "410": "Good no more",
    "413": "Too large",
    "415": "Unsupported media type",
    "422": "The request is not valid",
    "429": "Too many attempts",
    "503": "Not available now",
}
_NESTED = re.compile(r"(#/components/schemas/)(?:\w+\.)+(?=\w)")
# Whoever sees a protocol may not always change it.
OWNERS = ("/share", "/unshare", "/publish", "/withdraw", "/transfer")
CONFLICTING = ("/cancel", "/retry", "/force-retry", "/reset", "/hold", "/resume", "/jobs/{job}")
_DELETED = frozenset({"delete_protocol", "delete_dataset", "delete_source", "cancel_fetch"})
_UUIDS = frozenset(
    {"job", "task", "artifact", "dataset", "session", "source", "fetch", "token", "analysis", "identity"}
)
METHODS = frozenset({"get", "put", "post", "patch", "delete"})


def finish(document: dict[str, Any] | str) -> dict[str, Any] | str:
    """Complete what the framework generates: problems, header parameters, formats."""
    if isinstance(document, str):
        raise TypeError("the document is made as JSON, never as YAML")
    document = _flat(document)
    document["components"]["schemas"] |= {"Problem": PROBLEM_SCHEMA, **_schemas_of_plans()}
    scopes = _scopes()
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method in METHODS:
                _finish_operation(path, operation, scopes)
    document.pop("servers", None)
    return document


def _scopes() -> dict[str, str]:
    """What each operation takes of a user's token, by its name."""
    views: list[Any] = list(current_app.view_functions.values())
    return {
        view._spec["operation_id"]: view.labfleet_scope.value
        for view in views
        if hasattr(view, "labfleet_scope")
    }


def _flat(document: dict[str, Any]) -> dict[str, Any]:
    """Name a schema once: the framework repeats `Task` as `Job.Task`, `Jobs.Task` …"""
    schemas = document["components"]["schemas"]
    document["components"]["schemas"] = {
        name.rsplit(".", 1)[-1]: schema for name, schema in schemas.items() if name != "HTTPError"
    }
    flat: dict[str, Any] = json.loads(_NESTED.sub(r"\1", json.dumps(document)))
    return flat


def _schemas_of_plans() -> dict[str, Any]:
    """What a dry run answers; the framework knows of one success for each operation."""
    plan = DryRun.model_json_schema(mode="serialization", ref_template="#/components/schemas/{model}")
    return {**plan.pop("$defs"), "DryRun": plan}


def _finish_successes(operation: dict[str, Any]) -> None:
    """What an operation answers besides the one success that the framework knows of; and its header."""
    if operation.pop("x-labfleet-unready", False):  # the same shape tells which part does not answer
        operation["responses"]["503"] = {**operation["responses"]["200"], "description": "Some part does not"}
    if any(parameter["name"] == "dry_run" for parameter in operation["parameters"]):
        operation["responses"]["200"] = {
            "description": "With `dry_run`: what there would be",
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/DryRun"}}},
        }
    operation["parameters"] += operation.pop("x-labfleet-parameters", [])


def _finish_operation(path: str, operation: dict[str, Any], scopes: Mapping[str, str]) -> None:
    _finish_successes(operation)
    for parameter in operation["parameters"]:
        _finish_parameter(parameter)
    expected = {"400", "503"}
    if operation.get("security"):
        expected |= {"401"}
    if scope := scopes.get(operation["operationId"]):
        operation["security"] = [{"user": [scope]}]
        expected |= {"403"}
    if "{" in path:
        expected |= {"404"}
    if path.endswith(OWNERS) or operation["operationId"] in _DELETED:
        expected |= {"403", "409"}
    if path.endswith("/login"):
        expected |= {"401", "403", "429"}
    if path.endswith("/join"):
        expected |= {"410", "429"}
    if operation.get("requestBody"):
        operation["requestBody"]["required"] = True
        expected |= {"404", "409", "413", "415", "422"}
    if operation["parameters"]:
        expected |= {"422"}
    if path.endswith(CONFLICTING) or "/attempts/" in path:
        expected |= {"409"}
    for status in sorted(expected - set(operation["responses"])):
        operation["responses"][status] = _problem(ERRORS[status])
    operation["responses"]["default"] = _problem("Any other error")


def _finish_parameter(parameter: dict[str, Any]) -> None:
    if parameter["in"] == "path" and parameter["name"] in _UUIDS:
        parameter["schema"] = {"type": "string", "format": "uuid"}
    elif parameter["name"] == "number":
        parameter["schema"] = {"type": "integer", "minimum": 1, "maximum": 999_999_999}
    elif parameter["in"] == "query" and parameter.get("schema", {}).get("type") == "array":
        parameter |= {"style": "form", "explode": False}


def _problem(description: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"description": description, "content": {"application/problem+json": {"schema": schema}}}


def document() -> str:
    """The document as text, made without any configuration."""
    from labfleet.web.factory import bare_app  # noqa: PLC0415 - the factory uses this module

    app = bare_app()
    with app.app_context():
        return json.dumps(app.spec, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Write the document to the file that is named, or to standard output."""
    names = sys.argv[1:] if arguments is None else arguments
    if names:
        Path(names[0]).write_text(document(), encoding="utf-8")
    else:
        sys.stdout.write(document())
    return 0
