"""Protocols against datasets: what was run on what, running what is chosen, comparing what came out."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from flask import Response, g, redirect, render_template, request
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as BaseResponse

from labfleet.datasets import service as datasets
from labfleet.db.models import Artifact, Dataset, Protocol
from labfleet.errors import Invalid, NotFound
from labfleet.jobs import matrix, service, spec
from labfleet.jobs.states import State
from labfleet.jobs.visible import Whose
from labfleet.protocols import service as protocols
from labfleet.web.api.jobs import submit_spec
from labfleet.web.pages.artifacts import read_text
from labfleet.web.pages.frame import pages
from labfleet.web.pages.jobs import WHOSE
from labfleet.web.pages.previews import IMAGES
from labfleet.web.pages.tables import read_rows, separator_of
from labfleet.web.services import services

# Of each side.
SIDE = 200
COMPARED = 12
METRICS = 200
LETTERS = {state: state.value[0] for state in State}
PLAIN = "text/plain; charset=utf-8"


@dataclass(frozen=True)
class Grid:
    """What a page of the matrix shows: its rows, its columns, and a line of letters for each row."""

    protocols: list[Protocol]
    datasets: list[Dataset]
    lines: list[str]


@pages.get("/matrix")
def show_matrix() -> str:
    """The whole matrix."""
    with services().sessions() as db:
        grid = _grid(db)
    lines, whose = grid.lines, _whose()
    return render_template(
        "matrix.html",
        section="Matrix",
        rows=list(zip(grid.protocols, lines, strict=True)),
        datasets=grid.datasets,
        letters=LETTERS,
        counts=[(state, sum(line.count(LETTERS[state]) for line in lines)) for state in State],
        empty=sum(line.count(matrix.NONE) for line in lines),
        seen=_tag(lines),
        query=request.args.to_dict(),
        whose=whose,
        choices=WHOSE,
        ran=request.args.get("ran", ""),
        compared=COMPARED,
    )


@pages.get("/matrix/states")
def matrix_states() -> Response:
    """The letters alone, for a page that follows them; 204 while they are what the browser has seen."""
    with services().sessions() as db:
        lines = _grid(db).lines
    tag = _tag(lines)
    if request.args.get("seen") == tag:
        return Response(status=204)
    return Response("\n".join([tag, *lines]), content_type=PLAIN)


@pages.get("/matrix/cell")
def open_cell() -> BaseResponse:
    """To the latest run of a cell, or to the form that makes one."""
    with services().sessions() as db:
        ((protocol, dataset),) = _pairs(db, request.args.getlist("cell")[:1]) or [_no_cell()]
        found = matrix.cells(db, g.user, [protocol.id], [dataset.id], _whose())
    cell = found.get((protocol.id, dataset.id))
    return redirect(f"/tasks/{cell.task}" if cell else f"/jobs/new?protocol={protocol.name}", 303)


@pages.post("/matrix/run")
def run_cells() -> BaseResponse:
    """Run the chosen cells as one job."""
    chosen = request.form.get("cells", "").split()
    if len(chosen) > matrix.MAX_RUN:
        raise Invalid(f"{len(chosen)} experiments were chosen.", hint=f"Choose at most {matrix.MAX_RUN}.")
    wanted: dict[uuid.UUID, tuple[Protocol, list[uuid.UUID]]] = {}
    with services().sessions() as db:
        for protocol, dataset in _pairs(db, chosen):
            wanted.setdefault(protocol.id, (protocol, []))[1].append(dataset.id)
        document = matrix.experiments(list(wanted.values()))
    job = submit_spec(spec.read(document), None)
    return redirect(f"/matrix?ran={job.id}", 303)


@pages.get("/matrix/compare")
def compare_cells() -> str:
    """What came out of the chosen cells, side by side."""
    with services().sessions() as db:
        pairs = _pairs(db, request.args.getlist("cell")[:COMPARED])
        sides = {one.id for one, _ in pairs}, {one.id for _, one in pairs}
        found = matrix.cells(db, g.user, *sides, _whose())
        several = len({one.id for one, _ in pairs}) > 1
        columns, results = [], []
        for protocol, dataset in pairs:
            cell = found.get((protocol.id, dataset.id))
            if cell:
                name = f"{protocol.title or protocol.name} on {dataset.name}" if several else dataset.name
                columns.append((name, cell))
                results.append((name, list(service.task_artifacts(db, g.user, cell.task))))
        titles = {
            output: told.get("title", output)
            for protocol, _ in pairs
            for version in protocol.versions
            for output, told in version.manifest.get("outputs", {}).items()
        }
    return render_template(
        "compare.html",
        section="Matrix",
        columns=columns,
        plots=_by_output(results, titles, lambda item: item.kind == "array"),
        pictures=_by_output(results, titles, lambda item: item.media_type in IMAGES),
        networks=_by_output(results, titles, lambda item: item.kind == "network"),
        metrics=_metrics(results, titles),
    )


Results = list[tuple[str, list[Artifact]]]
Group = tuple[str, list[tuple[str, Artifact]]]


def _by_output(results: Results, titles: dict[str, str], fits: Callable[[Artifact], bool]) -> list[Group]:
    groups: dict[str, list[tuple[str, Artifact]]] = {}
    for name, artifacts in results:
        for item in artifacts:
            if fits(item):
                groups.setdefault(item.output or item.name, []).append((name, item))
    return [(titles.get(output, output), items) for output, items in groups.items()]


def _metrics(results: Results, titles: dict[str, str]) -> list[tuple[str, list[tuple[str, list[str]]]]]:
    """Of tables with a name and a value a line: the names, and the value of each experiment beside them."""
    tables = []
    for title, items in _by_output(results, titles, lambda item: item.kind == "table"):
        columns = {name: _pairs_of(item) for name, item in items}
        names = list(dict.fromkeys(key for values in columns.values() for key in values))
        if names and all(columns.values()):
            rows = [(key, [columns.get(name, {}).get(key, "") for name, _ in results]) for key in names]
            tables.append((title, rows))
    return tables


def _pairs_of(item: Artifact) -> dict[str, str]:
    separator = separator_of(item.name, item.media_type)
    text, whole = read_text(item)
    rows = (read_rows(text, separator) if separator and whole else None) or []
    if not 1 < len(rows) <= METRICS or any(len(row) != 2 for row in rows):
        return {}
    return {row[0]: row[1] for row in rows[1:]}


def _whose() -> Whose:
    try:
        return Whose(request.args.get("whose") or Whose.MINE)
    except ValueError:
        raise Invalid(
            "The address is not right: 'whose' is none of mine, shared, public, all.",
            hint="Go back to the matrix.",
        ) from None


def _grid(db: Session) -> Grid:
    words, data = (request.args.get(name, "").strip().lower() for name in ("protocols", "data"))
    found = [
        protocol
        for protocol in protocols.list_protocols(db, g.user)
        if (version := matrix.newest(protocol)) and version.manifest.get("inputs")
    ]
    rows = [one for one in found if words in f"{one.name} {one.title}".lower()][:SIDE]
    columns = [one for one in datasets.list_datasets(db, g.user, SIDE).items if data in one.name.lower()]
    lines = matrix.lines(db, g.user, [one.id for one in rows], [one.id for one in columns], _whose())
    return Grid(rows, columns, lines)


def _pairs(db: Session, chosen: Iterable[str]) -> list[tuple[Protocol, Dataset]]:
    """Protocol and dataset of each `NAME:DATASET`, as far as the viewer may see them."""
    by_name = {protocol.name: protocol for protocol in protocols.list_protocols(db, g.user)}
    found = []
    for text in chosen:
        name, _, dataset = text.partition(":")
        if name not in by_name:
            raise NotFound(f"There is no protocol '{name[:80]}'.")
        try:
            found.append((by_name[name], datasets.get_dataset(db, g.user, uuid.UUID(dataset))))
        except ValueError:
            raise NotFound(f"There is no dataset '{dataset[:80]}'.") from None
    return found


def _no_cell() -> tuple[Protocol, Dataset]:
    raise Invalid("No cell was chosen.", hint="Go back to the matrix and choose one.")


def _tag(lines: list[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
