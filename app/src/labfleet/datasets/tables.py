"""Which datasets are tables, by their names."""

from __future__ import annotations

from enum import StrEnum


class Format(StrEnum):
    """A format of tables that is understood."""

    TEXT = "text"
    EXCEL = "excel"
    JSON = "json"
    PARQUET = "parquet"


ENDINGS: dict[str, Format] = {
    "csv": Format.TEXT,
    "tsv": Format.TEXT,
    "tab": Format.TEXT,
    "xlsx": Format.EXCEL,
    "xls": Format.EXCEL,
    "xlsb": Format.EXCEL,
    "ods": Format.EXCEL,
    "json": Format.JSON,
    "jsonl": Format.JSON,
    "ndjson": Format.JSON,
    "parquet": Format.PARQUET,
}


def format_of(name: str) -> Format | None:
    """The format that a file of this name has, None for what is no table."""
    return ENDINGS.get(name.rsplit(".", 1)[-1].lower()) if "." in name else None
