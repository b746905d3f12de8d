"""Does a source parse? Python by its own parser, R and bash by tree-sitter's grammars (offline)."""

from __future__ import annotations

import ast
import re
import warnings
from functools import cache
from typing import Any

from labfleet.protocols.problems import Problem
from labfleet.protocols.tree import Entry

MAX_SOURCE_BYTES = 1024 * 1024

_BY_SUFFIX = {".py": "python", ".r": "r", ".sh": "bash", ".bash": "bash"}
_BY_SHEBANG = (
    (re.compile(rb"^#!.*\bpython[0-9.]*\b"), "python"),
    (re.compile(rb"^#!.*\bRscript\b"), "r"),
    (re.compile(rb"^#!.*\b(ba|da)?sh\b"), "bash"),
)


def check_source(entry: Entry) -> Problem | None:
    """The first syntax error of a source in a language we know; None for all other files."""
    if entry.mode == "120000":
        return None
    with entry.place.open("rb") as file:
        content = file.read(MAX_SOURCE_BYTES + 1)
    language = language_of(entry.path.suffix, content)
    if language is None:
        return None
    name = str(entry.path)
    if len(content) > MAX_SOURCE_BYTES:
        message = f"A source of more than {MAX_SOURCE_BYTES} bytes is not checked."
        return Problem(name, None, "source_too_large", message, "Move data out of the source.")
    return _python(name, content) if language == "python" else _tree_sitter(name, content, language)


def language_of(suffix: str, content: bytes) -> str | None:
    """`python`, `r` or `bash` by the ending or the `#!` line, None for anything else."""
    if language := _BY_SUFFIX.get(suffix.lower()):
        return language
    first = content[:200].split(b"\n", 1)[0]
    return next((language for pattern, language in _BY_SHEBANG if pattern.match(first)), None)


def _python(name: str, content: bytes) -> Problem | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an old escape sequence is not our author's syntax error
            ast.parse(content, filename=name)
    except SyntaxError as error:
        return _syntax(name, error.lineno, f"Python: {error.msg}")
    except (ValueError, RecursionError, MemoryError) as error:
        return _syntax(name, None, f"Python can't parse it: {error or 'nested too deeply'}")
    return None


def _tree_sitter(name: str, content: bytes, language: str) -> Problem | None:
    root = _parser(language).parse(content).root_node
    if not root.has_error:
        return None
    node = _first_error(root)
    lines = content.splitlines() or [b""]
    line = min(node.start_point[0] + 1, len(lines))  # what is missing at the end lies behind the last line
    text = lines[line - 1].decode("utf-8", "replace").strip()[:80]
    wrong = f"'{node.type}' is missing" if node.is_missing else "syntax error"
    return _syntax(name, line, f"{language}: {wrong}, in or after: {text}")


def _first_error(root: Any) -> Any:
    """The first node that is an error, searched without recursion: sources may nest deeply."""
    pending = [root]
    while pending:
        node = pending.pop()
        if node.is_error or node.is_missing:
            return node
        pending.extend(child for child in reversed(node.children) if child.has_error)
    return root


def _syntax(name: str, line: int | None, message: str) -> Problem:
    return Problem(name, line, "syntax_error", message, "Correct the line; the program could not start.")


@cache
def _parser(language: str) -> Any:
    # Loading a grammar costs milliseconds that a check of Python alone shouldn't pay.
    from tree_sitter_language_pack import get_parser  # noqa: PLC0415

    return get_parser(language)  # type: ignore[arg-type]
