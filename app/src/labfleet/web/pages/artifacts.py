"""One result file: as a table, a plot, a network, a picture or a text, and to download."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from flask import Response, g, jsonify, render_template, request

from labfleet.db.models import Artifact, Task
from labfleet.errors import NotFound
from labfleet.jobs import service
from labfleet.web.api import views
from labfleet.web.files import IMMUTABLE, send_blob
from labfleet.web.guard import FILE_CSP
from labfleet.web.pages import networks
from labfleet.web.pages.arrays import Series, read_series
from labfleet.web.pages.frame import pages
from labfleet.web.pages.previews import IMAGES
from labfleet.web.pages.tables import read_rows, separator_of, sheet
from labfleet.web.services import services

TEXT_BYTES = 256 * 1024


@pages.get("/artifacts/<uuid:artifact>")
def artifact(artifact: uuid.UUID) -> str:
    """A result file on a page of its own."""
    with services().sessions() as db:
        found = service.read_artifact(db, g.user, artifact)
        task = service.read_task(db, g.user, found.task_id)
        output = _output(task, found)
        job = views.summary(service.read_job(db, g.user, task.job_id), g.user)
        name = task.name
    return render_template(
        "artifact.html",
        section="Jobs",
        item=found,
        title=output.get("title", found.name),
        units=output.get("units", {}),
        task_name=name,
        job=job,
        query=request.args.to_dict(),
        **_shown(found),
    )


@pages.get("/artifacts/<uuid:artifact>/content")
def artifact_content(artifact: uuid.UUID) -> Response:
    """The file itself."""
    found = _get(artifact)
    return send_blob(found.sha256, found.name, found.media_type)


@pages.get("/artifacts/<uuid:artifact>/series")
def artifact_series(artifact: uuid.UUID) -> Response:
    """The lines of an array or a table of numbers, for the plot on the page."""
    with services().sessions() as db:
        found = service.read_artifact(db, g.user, artifact)
        units = _output(service.read_task(db, g.user, found.task_id), found).get("units", {})
    series = _series(found, units)
    if series is None:
        raise NotFound("The file has no numbers to plot.", hint="Download it.")
    response = jsonify(asdict(series))
    response.headers["Cache-Control"] = IMMUTABLE
    return response


@pages.get("/artifacts/<uuid:artifact>/drawing")
def artifact_drawing(artifact: uuid.UUID) -> Response:
    """A network as a picture."""
    found = _get(artifact)
    data, whole = _read(found)
    separator = separator_of(found.name, found.media_type)
    network = networks.read_network(data, found.name, separator) if whole else None
    if network is None:
        raise NotFound("The file holds no network that can be drawn.", hint="Download it.")
    response = Response(networks.drawing(network), content_type="image/svg+xml")
    response.headers["Cache-Control"] = IMMUTABLE
    response.headers["Content-Security-Policy"] = FILE_CSP
    return response


def _output(task: Task, item: Artifact) -> dict[str, Any]:
    """What the protocol says of the file; nothing of one that it does not declare."""
    outputs: dict[str, dict[str, Any]] = task.protocol_version.manifest["outputs"]
    return outputs.get(item.output or "", {})


def _get(artifact_id: uuid.UUID) -> Artifact:
    with services().sessions() as db:
        return service.read_artifact(db, g.user, artifact_id)


def _read(item: Artifact, most: int | None = None) -> tuple[bytes, bool]:
    """The file up to a limit, and whether that is all of it."""
    limit = most or services().settings.web.view_max_bytes
    with services().store.open(item.sha256) as file:
        data = file.read(limit)
    return data, item.size <= limit


def read_text(item: Artifact, most: int | None = None) -> tuple[str, bool]:
    """A result file's text up to a limit (`view_max_bytes`), and whether that is all of it."""
    data, whole = _read(item, most)
    return data.decode("utf-8", errors="replace").replace("\x00", "\ufffd"), whole


def _series(item: Artifact, units: Mapping[str, str]) -> Series | None:
    text, whole = read_text(item)
    return read_series(text, separator_of(item.name, item.media_type), units) if whole else None


def _shown(item: Artifact) -> dict[str, Any]:
    """What the page shows of the file: one of these, or nothing but the download."""
    if item.media_type in IMAGES:
        return {"image": True}
    if item.kind == "network":
        return {"network": True}
    if item.kind == "array":
        return {"array": True}
    separator = separator_of(item.name, item.media_type)
    if item.kind == "table" and separator:
        text, whole = read_text(item)
        rows = read_rows(text, separator, whole=whole)
        if rows:
            sort, page = _number("sort"), _number("page")
            down = request.args.get("down") == "1"
            return {"sheet": sheet(rows, sort, page or 1, down=down, whole=whole), "sort": sort, "down": down}
    if item.kind == "text" or item.media_type.startswith("text/"):
        text, whole = read_text(item, TEXT_BYTES)
        return {"text": text, "cut": not whole}
    return {}


def _number(name: str) -> int | None:
    value = request.args.get(name, "")
    return int(value) if value.isascii() and value.isdigit() and len(value) < 9 else None
