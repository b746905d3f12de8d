"""The API's documentation: the OpenAPI document, and a page made of it that needs nothing else."""

from __future__ import annotations

from typing import Any, cast

from apiflask import APIFlask
from flask import Response, current_app, json, render_template

from labfleet.web.openapi import METHODS
from labfleet.web.pages.frame import pages
from labfleet.web.services import services


@pages.get("/api/openapi.json")
def openapi_document() -> Response:
    """The OpenAPI 3.1 document."""
    return Response(json.dumps(_spec()), content_type="application/json")


@pages.get("/api/docs")
def api_docs() -> str:
    """The document to read."""
    spec = _spec()
    base = services().settings.web.public_url.rstrip("/")
    return render_template("docs.html", section="API", spec=spec, groups=_groups(spec), base=base)


def _spec() -> dict[str, Any]:
    return cast(dict[str, Any], cast(APIFlask, current_app)._get_spec("json"))


ORDER = ("users", "protocols", "datasets", "jobs", "tasks", "artifacts", "workers", "service", "attempts")


def _groups(spec: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    groups: dict[str, list[dict[str, Any]]] = {tag: [] for tag in ORDER}
    for path, item in spec["paths"].items():
        for method, operation in item.items():
            if method in METHODS:
                tag = (operation.get("tags") or ["other"])[0]
                groups.setdefault(tag.lower(), []).append(_operation(path, method, operation))
    return groups


def _operation(path: str, method: str, operation: dict[str, Any]) -> dict[str, Any]:
    return {
        "path": path,
        "method": method,
        "id": operation["operationId"],
        "summary": operation.get("summary", ""),
        "description": operation.get("description", ""),
        "parameters": operation.get("parameters", []),
        "body": operation.get("requestBody", {}).get("content", {}),
        "responses": operation["responses"],
        "security": [name for entry in operation.get("security", []) for name in entry],
    }
