"""Results as they are shown on a job's page: plots, first rows of tables, first lines of texts."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any
from uuid import UUID

from labfleet.datasets.store import BlobStore
from labfleet.db.models import Artifact
from labfleet.errors import NotFound

PREVIEW_BYTES = 64 * 1024
PREVIEW_ROWS = 12
PREVIEW_COLUMNS = 10
PREVIEW_CELL = 120
PREVIEW_TEXT = 4000
PREVIEWS = 30
IMAGES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp", "image/svg+xml"})
ORDER = {"plot": 0, "array": 1, "table": 2, "network": 3, "text": 4}


@dataclass(frozen=True)
class Table:
    """The first rows of a table; `more` says what was left out."""

    head: list[str]
    rows: list[list[str]]
    more: str


@dataclass(frozen=True)
class Shown:
    """One result, and at most one way to show it."""

    id: UUID
    title: str
    name: str
    size: int
    image: bool = False
    table: Table | None = None
    text: str | None = None
    network: bool = False
    array: bool = False
    units: Mapping[str, str] = field(default_factory=dict)


def shown(
    artifacts: list[Artifact], outputs: Mapping[str, Mapping[str, Any]], store: BlobStore
) -> list[Shown]:
    """The results: plots first, then tables, texts, the rest."""
    ordered = sorted(artifacts, key=lambda item: (ORDER.get(item.kind, 9), item.name))
    return [_shown(item, outputs, store, number < PREVIEWS) for number, item in enumerate(ordered)]


def _shown(
    item: Artifact, outputs: Mapping[str, Mapping[str, Any]], store: BlobStore, preview: bool
) -> Shown:
    output = outputs.get(item.output or "", {})
    title, units = output.get("title", item.name), output.get("units", {})
    image, table, text = item.media_type in IMAGES, None, None
    network, array = preview and item.kind == "network", preview and item.kind == "array"
    if preview and not (image or network or array):
        separator = _separator(item)
        if item.kind == "table" and separator:
            table = read_table(_head(store, item), separator, whole=item.size <= PREVIEW_BYTES)
        elif item.kind == "text" or item.media_type == "text/plain":
            text = _text(_head(store, item))
    return Shown(item.id, title, item.name, item.size, image, table, text, network, array, units)


def _separator(item: Artifact) -> str | None:
    if item.media_type == "text/csv" or item.name.endswith(".csv"):
        return ","
    return "\t" if item.name.endswith((".tsv", ".txt")) else None


def _head(store: BlobStore, item: Artifact) -> str:
    try:
        with store.open(item.sha256) as file:
            return file.read(PREVIEW_BYTES).decode("utf-8", errors="replace").replace("\x00", "�")
    except NotFound:
        return ""


def read_table(text: str, separator: str, *, whole: bool = True) -> Table | None:
    """The first rows of a table, or None for a text that is none."""
    lines = text.splitlines(keepends=True)
    lines = lines if whole else lines[:-1]  # the last may be cut in two
    try:
        rows = list(islice(csv.reader(lines, delimiter=separator), PREVIEW_ROWS + 2))
    except csv.Error:
        return None
    if not rows:
        return None
    head, *body = [[cell[:PREVIEW_CELL] for cell in row[:PREVIEW_COLUMNS]] for row in rows]
    return Table(head, body[:PREVIEW_ROWS], _left_out(len(body), len(rows[0])))


def _left_out(rows: int, columns: int) -> str:
    parts = []
    if rows > PREVIEW_ROWS:
        parts.append(f"first {PREVIEW_ROWS} rows")
    if columns > PREVIEW_COLUMNS:
        parts.append(f"first {PREVIEW_COLUMNS} of {columns} columns")
    return f"The {' and '.join(parts)}." if parts else ""


def _text(text: str) -> str:
    return text if len(text) <= PREVIEW_TEXT else text[:PREVIEW_TEXT] + "…"
