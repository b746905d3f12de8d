"""Names that people give to things. A name is a label, never a path."""

from __future__ import annotations

import unicodedata

from labfleet.errors import Invalid

MAX_NAME_BYTES = 255
FORBIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


class BadName(Invalid):
    """The name of a dataset or artifact could be taken for a path, or can't be shown."""

    code = "bad_name"
    title = "The name is not allowed"
    default_hint = (
        "Use a plain file name such as 'expression.csv': no slashes, no '..', no control characters."
    )


def check_name(name: str) -> str:
    """Return `name` in Unicode's NFC form, or raise `BadName`.

    A name has 1 to 255 bytes of UTF-8, no slash or backslash, no control or invisible character,
    no space at its ends, and is neither `.` nor `..`.
    """
    name = unicodedata.normalize("NFC", name)
    problem = _problem(name)
    if problem:
        raise BadName(f"The name {name[:80]!a} {problem}.")
    return name


def _problem(name: str) -> str | None:
    checks = (
        (not name, "is empty"),
        (name in {".", ".."}, "stands for a directory"),
        ("/" in name or "\\" in name, "has a slash; a name is not a path"),
        (
            any(unicodedata.category(character) in FORBIDDEN_CATEGORIES for character in name),
            "has a control character or an invisible one",
        ),
        (name != name.strip(), "begins or ends with a space"),
        (
            len(name.encode("utf-8", errors="replace")) > MAX_NAME_BYTES,
            f"is longer than {MAX_NAME_BYTES} bytes",
        ),
    )
    return next((message for wrong, message in checks if wrong), None)
