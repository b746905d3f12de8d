"""YAML as a manifest may use it: plain JSON values, each with the line it stands on.

Aliases are refused (a few lines of them can stand for gigabytes), and so are repeated keys, tags
and nesting that nobody writes by hand. PyYAML's safe loader does the reading.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import yaml

from labfleet.protocols.problems import MANIFEST, InvalidProtocol, Problem

MAX_BYTES = 256 * 1024
MAX_DEPTH = 40
_FAST_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Document:
    """The value of a YAML file, and the line of each part of it."""

    value: Any
    lines: dict[Path, int]

    def line(self, path: Path) -> int | None:
        """The line of the part, or of the nearest part around it that exists."""
        for end in range(len(path), -1, -1):
            if path[:end] in self.lines:
                return self.lines[path[:end]]
        return None


def read_yaml(content: bytes, file: str = MANIFEST, *, large: bool = False) -> Document:
    """Parse `content`; `InvalidProtocol` says line and remedy of the first fault.

    `large` takes files of any size, in a tenth of the time where PyYAML has its part that is written in C.
    """
    if len(content) > MAX_BYTES and not large:
        raise _fault(
            file,
            None,
            "manifest_too_large",
            f"The file has {len(content)} bytes; {MAX_BYTES} are allowed.",
            "Move data into files of their own.",
        )
    try:
        return _Reader(file, _FAST_LOADER if large else yaml.SafeLoader).read(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _fault(file, line, "not_utf8", "The file is not UTF-8.", "Save it as UTF-8.") from None
    except yaml.MarkedYAMLError as error:
        raise _syntax(file, error) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        text = str(error).splitlines()[0]
        raise _fault(file, None, "broken_yaml", f"The YAML can't be read: {text}", _SYNTAX_HINT) from None


_SYNTAX_HINT = "Check indentation, quotes and colons; quote texts that contain ': ' or ' #'."


def _syntax(file: str, error: yaml.MarkedYAMLError) -> InvalidProtocol:
    mark = error.problem_mark or error.context_mark
    text = " ".join(part for part in (error.context, error.problem) if part)
    line = mark.line + 1 if mark else None
    return _fault(file, line, "broken_yaml", f"The YAML is broken: {text}.", _SYNTAX_HINT)


def _fault(file: str, line: int | None, code: str, message: str, hint: str) -> InvalidProtocol:
    return InvalidProtocol([Problem(file, line, code, message, hint)])


class _Reader:
    def __init__(self, file: str, loader: Any) -> None:
        self.file = file
        self.loader = loader
        self.lines: dict[Path, int] = {}

    def read(self, text: str) -> Document:
        self._screen(text)
        loader = self.loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                raise self._bad(None, "empty", "The file is empty.", "Start with 'labfleet: 1'.")
            self._walk(node, ())
            value = loader.construct_document(node)
        finally:
            loader.dispose()
        self._plain(value, ())
        return Document(value, self.lines)

    def _screen(self, text: str) -> None:
        """Before anything is built: no aliases, no depth that would exhaust the stack."""
        depth = 0
        for event in yaml.parse(text, Loader=self.loader):
            if isinstance(event, yaml.AliasEvent):
                raise self._bad(event, "alias", "YAML aliases (*name) are not allowed.", "Write it out.")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                raise self._bad(event, "too_deep", f"More than {MAX_DEPTH} levels.", "Nest less deeply.")

    def _walk(self, node: yaml.Node, path: Path) -> None:
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            self._walk_mapping(node, path)
        elif isinstance(node, yaml.SequenceNode):
            for index, child in enumerate(node.value):
                self._walk(child, (*path, index))

    def _walk_mapping(self, node: yaml.MappingNode, path: Path) -> None:
        seen: set[str] = set()
        for key, child in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag != "tag:yaml.org,2002:str":
                raise self._bad(key, "bad_key", "A key must be text.", "Put the key into quotes.")
            if key.value in seen:
                raise self._bad(
                    key, "duplicate_key", f"The key '{key.value}' stands here twice.", "Keep one of them."
                )
            seen.add(key.value)
            self.lines[(*path, key.value)] = key.start_mark.line + 1
            self._walk(child, (*path, key.value))

    def _plain(self, value: Any, path: Path) -> None:
        """Only what JSON (and a Postgres jsonb) can hold."""
        if isinstance(value, dict):
            for key, child in value.items():
                self._plain(key, (*path, key))
                self._plain(child, (*path, key))
        elif isinstance(value, list):
            for index, child in enumerate(value):
                self._plain(child, (*path, index))
        elif fault := _not_plain(value):
            line = Document(None, self.lines).line(path)
            name = ".".join(map(str, path)) or "the file"
            raise _fault(self.file, line, "bad_value", f"{name}: {fault}", "Put the value into quotes.")

    def _bad(self, at: Any, code: str, message: str, hint: str) -> InvalidProtocol:
        line = at.start_mark.line + 1 if at is not None else None
        return _fault(self.file, line, code, message, hint)


def _not_plain(value: Any) -> str | None:
    if isinstance(value, str):
        unusual = "\0" in value or any("\ud800" <= char <= "\udfff" for char in value)
        return "the text has a character that can't be stored." if unusual else None
    if isinstance(value, float):
        return None if math.isfinite(value) else "the number is not finite."
    if isinstance(value, int):
        return None if abs(value) < 2**63 else "the number is too large."
    return None if value is None else f"a {type(value).__name__} is no plain text or number."
