"""A dataset's preview as lines of text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]

BARS = " ▁▂▃▄▅▆▇█"


def preview_lines(preview: Json) -> Iterator[str]:
    """What a preview says of the whole table, and where it is not as it should be."""
    result = preview["result"]
    if preview["state"] is None:
        yield "Previews are made of tables only."
    elif preview["state"] in {"queued", "running"}:
        yield "The preview is being made; ask again in a moment."
    elif result is None:
        yield f"No preview could be made: {preview['message']}"
    else:
        yield f"{result['rows']:,} rows, {result['columns_total']:,} columns{_how(result)}"
        yield from result.get("notes", [])
        yield from _rejected(result.get("rejected", {"count": 0}))
        yield ""


def _how(result: Json) -> str:
    header = {True: "with a header", False: "without a header", None: None}[result.get("header")]
    separator = result.get("separator_name") and f"separator {result['separator_name']}"
    told = [text for text in (result.get("encoding"), separator, header) if text]
    return f" ({', '.join(told)})" if told else ""


def _rejected(rejected: Json) -> Iterator[str]:
    if not rejected["count"]:
        return
    least = "at least " if rejected["more"] else ""
    yield f"Not as the others: {least}{rejected['count']:,} lines, which were left out here"
    if rejected["lost"]:
        yield f"  about {rejected['lost']:,} lines belong to a quote that is never closed: not counted"
    for each in rejected["shown"]:
        byte = "" if each["byte"] is None else f" (byte {each['byte']:,})"
        column = f", column {each['column']}" if each["column"] else ""
        yield f"  line {each['line']:,}{byte}{column}: {each['message']}"


def column_rows(result: Json) -> list[tuple[str, ...]]:
    """A row for each column: name, type, missing, distinct, and what its values are like."""
    return [
        (x["name"], x["type"], f"{x['missing']:,}", f"{x['distinct']:,}", _values(x))
        for x in result["columns"]
    ]


def _values(column: Json) -> str:
    if column.get("histogram"):
        return f"{_figure(column['least'])} {_bars(column['histogram'])} {_figure(column['greatest'])}"
    if column.get("top"):
        return ", ".join(f"{item['value']} ({item['count']:,})" for item in column["top"][:3])
    if "least" in column:
        return f"{_figure(column['least'])} to {_figure(column['greatest'])}"
    return ""


def _figure(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, int | float) else str(value)


def _bars(counts: list[int]) -> str:
    highest = max(counts) or 1
    return "".join(BARS[-(-8 * count // highest)] for count in counts)
