"""A job written in a file: YAML or JSON by its content, and where in it the server's complaints belong."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labfleet.cli.client import ServerProblem
from labfleet.errors import Invalid, LabfleetError
from labfleet.protocols.problems import InvalidProtocol
from labfleet.protocols.yamlfile import Document, read_yaml

STANDARD_INPUT = "-"
Place = tuple[str | int, ...]

# A point of a sweep, as the server names it: "tree.sweep, point 3".
_POINT = re.compile(r", point (\d+)(?=\.|$)")
# Faults that the server tells of a whole task, and the field of the task that they are about.
_FIELD = {
    "unknown_protocol": "protocol",
    "unknown_version": "version",
    "unknown_dataset": "inputs",
    "invalid_inputs": "inputs",
    "invalid_parameters": "parameters",
    "webhooks_off": "webhook",
    "mail_off": "mail",
    "no_address": "mail",
}


class InvalidJobFile(LabfleetError):
    """A file that is no job that could run; `faults` are its faults with their lines."""

    code = "invalid_job_file"
    title = "The file is no job that could run"
    default_hint = "Correct the lines that are named; docs/scientist/jobs.md tells what can stand there."

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("\n".join(str(fault) for fault in faults))
        self.faults = tuple(faults)


@dataclass(frozen=True)
class Fault:
    """One fault: file, line (where known), the place in the document, and what is wrong."""

    file: str
    line: int | None
    path: str
    message: str

    def __str__(self) -> str:
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{where}: {self.path}: {self.message}" if self.path else f"{where}: {self.message}"


@dataclass(frozen=True)
class JobFile:
    """What stands in a file, and the line of each part."""

    name: str
    document: Document

    @property
    def spec(self) -> dict[str, Any]:
        """The job's specification as it is written."""
        value: dict[str, Any] = self.document.value
        return value

    def blame(self, problem: ServerProblem) -> InvalidJobFile | None:
        """The server's answer as faults of this file; None if it complains of something else."""
        document = problem.extra["problem"]
        told = document.get("errors") or []
        if not told and (problem.code in _FIELD or problem.status == 422):
            told = [{"path": "", "message": problem.detail, "code": problem.code}]
        return InvalidJobFile([self._fault(each, problem.code) for each in told]) if told else None

    def _fault(self, told: dict[str, str], code: str) -> Fault:
        path = "" if told["path"] == "job" else told["path"].replace("/", ".").removeprefix("job.")
        place = self._narrowed(self._place(path), told.get("code", code), told["message"])
        return Fault(self.name, self.document.line(place), path, told["message"])

    def _place(self, path: str) -> Place:
        """The part of the document nearest to a path of the server."""
        words = _POINT.sub(r".list.\1", path).split(".")
        place: Place = ()
        value = self.document.value
        while words and (step := _step(value, words)):
            key, used = step
            place, value, words = (*place, key), value[key], words[used:]
        return place

    def _narrowed(self, place: Place, code: str, message: str) -> Place:
        """The part that the fault is about, where the server names only what is around it."""
        field = _FIELD.get(code)
        value = self._value(place)
        if field and isinstance(value, dict) and field in value:
            place, value = (*place, field), value[field]
        if isinstance(value, dict):
            named = [key for key in value if f"'{key}'" in message or message.startswith(f"{key}:")]
            place = (*place, *named[:1])
        return place

    def _value(self, place: Place) -> Any:
        value = self.document.value
        for key in place:
            value = value[key]
        return value


def is_file_name(text: str) -> bool:
    """Whether `text` names a file: a protocol's name has neither dot nor slash."""
    return text == STANDARD_INPUT or "." in text or "/" in text or "\\" in text


def read_job_file(name: str) -> JobFile:
    """The job in the file `name` (`-`: standard input). `InvalidJobFile` tells the first fault."""
    shown = "standard input" if name == STANDARD_INPUT else name
    document = _parsed(_content(name), shown)
    if not isinstance(document.value, dict):
        raise InvalidJobFile([Fault(shown, 1, "", "a job is a mapping, with 'protocol:' or 'tree:' in it")])
    return JobFile(shown, document)


def _content(name: str) -> bytes:
    try:
        if name == STANDARD_INPUT:
            return sys.stdin.read().encode("utf-8")
        return Path(name).read_bytes()
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"{name} can't be read: {error}.", hint="Name a readable file.") from None


def _parsed(content: bytes, name: str) -> Document:
    if not content.strip():
        raise InvalidJobFile([Fault(name, None, "", "the file is empty")])
    try:
        if content.lstrip().startswith(b"{"):
            return _json_or_yaml(content, name)
        return read_yaml(content, name, large=True)
    except InvalidProtocol as error:
        raise InvalidJobFile(
            [Fault(name, each.line, "", f"{each.message} {each.hint}") for each in error.problems]
        ) from None


def _json_or_yaml(content: bytes, name: str) -> Document:
    """YAML reads nearly all JSON, but not its numbers (1e-05): where it is JSON, it gives only the lines."""
    value = _json(content)
    try:
        # JSON has tabs between its values at most, where YAML wants none.
        document = read_yaml(content.replace(b"\t", b" "), name, large=True)
    except InvalidProtocol as error:
        # JSON may write a rare letter as two halves, which is no text for YAML.
        if value is not None and error.problems[0].code in {"bad_value", "broken_yaml"}:
            return Document(value, {})
        raise
    return document if value is None else Document(value, document.lines)


def _json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _step(value: Any, words: list[str]) -> tuple[str | int, int] | None:
    """The next key on the way, and how many words it takes: a key such as `parameters.top` has two."""
    if isinstance(value, list):
        word = words[0]
        return (int(word), 1) if word.isdigit() and int(word) < len(value) else None
    if isinstance(value, dict):
        for used in range(1, len(words) + 1):
            key = ".".join(words[:used])
            if key in value:
                return key, used
    return None
