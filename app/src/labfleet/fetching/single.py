"""The process of one fetch: `python -m labfleet.fetching.single DIRECTORY`.

Its standard input and output are the loader's connection (`labfleet.fetching.wire`). It bounds itself,
connects to where the settings let it only, and ends when the loader hangs up.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import quote

from labfleet.config import SourcesSection, WebserverSettings, web_settings
from labfleet.datasets import apart
from labfleet.datasets.confine import SPARE_BYTES, bound
from labfleet.datasets.tables import Format, format_of
from labfleet.fetching import guard
from labfleet.fetching.convert import RESULT
from labfleet.fetching.handlers.base import Fetched, FetchFailed, Task
from labfleet.fetching.handlers.known import Unusable, handler_of, known
from labfleet.fetching.wire import BEAT_SECONDS, LINE_BYTES, Writer

_NOT_DUMPABLE = 4
TELL_SECONDS = 0.5
CONVERTED = 0.9
"""The part of the way that is done when all has come."""
FORMATS = {"csv": Format.TEXT, "excel": Format.EXCEL, "json": Format.JSON, "parquet": Format.PARQUET}
MEDIA_TYPES = {
    "text/csv": Format.TEXT,
    "text/tab-separated-values": Format.TEXT,
    "application/json": Format.JSON,
    "application/x-ndjson": Format.JSON,
    "application/vnd.apache.parquet": Format.PARQUET,
    "application/vnd.ms-excel": Format.EXCEL,
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": Format.EXCEL,
}
PARQUET = "application/vnd.apache.parquet"


def main() -> None:
    """Answer the one request of this connection."""
    writer = _take_over_output()
    request = json.loads(sys.stdin.buffer.readline(LINE_BYTES))
    settings = web_settings()
    section = settings.sources
    bound(section.memory_bytes + SPARE_BYTES, section.disk_bytes)
    ctypes.CDLL(None).prctl(_NOT_DUMPABLE, 0, 0, 0, 0)  # other processes of this user can't look into it
    guard.only_to(section.networks, section.ports)
    threading.Thread(target=_end_with_the_loader, daemon=True).start()
    threading.Thread(target=_beat, args=[writer], daemon=True).start()
    _end_in_time(section.seconds)
    if request.get("asked") == "handlers":
        writer.say({"end": {name: handler.described() for name, handler in known().items()}})
        return
    try:
        _fetch(request, settings, Path(sys.argv[1]), writer)
    except FetchFailed as error:
        writer.say({"failed": scrubbed(str(error), request["credentials"]), "passing": error.passing})
    except OSError as error:  # of our own disk: what comes from the network is for the handler to say
        message = f"This Labfleet had no way to keep it: {error.strerror or error}."
        writer.say({"failed": scrubbed(message, request["credentials"]), "passing": True})
    except Exception as error:
        kind = type(error).__name__
        message = scrubbed(f"The handler failed with {kind}: {error}.", request["credentials"])
        writer.say({"failed": message, "passing": False})


def scrubbed(message: str, credentials: Mapping[str, str]) -> str:
    """The message without any credential that may stand in it."""
    for secret in sorted(filter(None, credentials.values()), key=len, reverse=True):
        for shown in (secret, quote(secret, safe="")):
            message = message.replace(shown, "***")
    return message


def _take_over_output() -> Writer:
    """The connection for us alone: what a library prints goes to the journal."""
    connection = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return Writer(connection)


def _end_with_the_loader() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(1)


def _end_in_time(seconds: float) -> None:
    """Whatever the main thread does: it fails when the time is over."""

    def late(number: int, frame: FrameType | None) -> None:
        del number, frame
        raise FetchFailed(f"It took longer than {seconds:g} seconds.")

    signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)


def _beat(writer: Writer) -> None:
    while True:
        time.sleep(BEAT_SECONDS)
        try:
            writer.say({})
        except OSError:
            os._exit(1)


def _fetch(request: Mapping[str, Any], settings: WebserverSettings, work: Path, writer: Writer) -> None:
    section = settings.sources
    try:
        handler = handler_of(request["handler"])
    except Unusable as error:
        raise FetchFailed(
            f"The handler '{request['handler']}' can't be used: {error}. Tell an admin."
        ) from None
    if handler is None:
        raise FetchFailed(f"There is no handler '{request['handler']}' any more.")
    task = Task(
        parameters=request["parameters"],
        credentials=request["credentials"],
        work=work,
        max_bytes=section.max_bytes,
        silent_seconds=section.silent_seconds,
        folders=tuple(section.folders),
        ca_file=section.ca_file,
        clear_credentials=section.clear_credentials,
        query_seconds=section.query_seconds,
        max_rows=section.max_rows,
        max_objects=section.max_objects,
        max_listed=section.max_listed,
        protocols=settings.protocols,
        check=lambda address: guard.check(address, section.networks, section.ports),
        tell=_Teller(writer),
    )
    fetched = handler().fetch(task)
    if fetched.parts and request["format"] == "file":
        raise FetchFailed(
            "Several files are put together in a table: choose a format of tables, or one file alone."
        )
    if request["format"] in {"file", "protocol"}:
        told = {"name": fetched.name, "media_type": fetched.media_type, **fetched.protocol}
    else:
        writer.say({"progress": CONVERTED, "text": "reading the table"})
        told, fetched = _converted(fetched, request, section, work)
    with fetched.path.open("rb") as file:
        writer.send(file)
    writer.say({"end": told})


def _converted(
    fetched: Fetched, request: Mapping[str, Any], section: SourcesSection, work: Path
) -> tuple[dict[str, Any], Fetched]:
    """The table as Parquet, and what is told of it."""
    apart_from = work / "convert"
    apart_from.mkdir()
    asked = {
        "path": str(fetched.path),
        "parts": [_part(each, request["format"]) for each in fetched.parts],
        "format": _format(fetched, request["format"]).value if not fetched.parts else "",
        "sheet": request.get("sheet"),
        "columns": fetched.columns,
        "steps": request.get("transform") or [],
        "work": str(apart_from),
        "memory_bytes": section.memory_bytes,
        "disk_bytes": section.disk_bytes,
    }
    try:
        told = apart.ask("labfleet.fetching.convert", asked, apart_from, section.seconds, lambda: True)
    except apart.Broken:
        raise FetchFailed("Reading the table ended the process that did it.", passing=True) from None
    if "message" in told:
        raise FetchFailed(told["message"])
    return {**told, "media_type": PARQUET}, Fetched(apart_from / RESULT, fetched.name)


def _part(fetched: Fetched, wanted: str) -> dict[str, str]:
    return {
        "path": str(fetched.path),
        "name": fetched.name,
        "format": _format(fetched, wanted).value,
    }


def _format(fetched: Fetched, wanted: str) -> Format:
    if fetched.columns:
        return Format.TEXT
    found = FORMATS.get(wanted) or format_of(fetched.name) or MEDIA_TYPES.get(fetched.media_type)
    if found is None:
        raise FetchFailed(
            f"It can't be told of which format '{fetched.name or 'the file'}' is, by its name or type: name "
            "it in the source, or keep the file as it is."
        )
    return found


class _Teller:
    """Tells how far the bytes are, now and then."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._next = 0.0

    def __call__(self, done: int, total: int | None) -> None:
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + TELL_SECONDS
        text = f"{done:,} of {total:,} bytes" if total else f"{done:,} bytes"
        self._writer.say({"progress": CONVERTED * done / total if total else 0.0, "text": text})


if __name__ == "__main__":
    main()
