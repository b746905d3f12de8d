"""The few things the CGI program needs, without the modules that would make it slow.

The program is started for each request. `json`, `re`, `socket`, `hashlib`, `signal`, `typing`
and `tomllib` together take longer to import than the interpreter takes to start (18 ms on top
of 7 ms); the built-in halves of the same modules take next to nothing. All interpreters that
Labfleet supports (CPython 3.11 and 3.13) have them; a test runs the program on what is there.
"""

from _json import encode_basestring_ascii, make_scanner
from _operator import _compare_digest as compare_digest
from _signal import ITIMER_REAL, SIGALRM, setitimer, signal  # type: ignore[import-not-found,unused-ignore]
from _socket import AF_UNIX, SOCK_STREAM
from _socket import socket as Socket  # noqa: N812  (it is a class)
from binascii import a2b_base64
from posix import environ, read, write

try:
    from _sha2 import sha256  # type: ignore[import-not-found,unused-ignore]
except ImportError:  # Python 3.11
    from _sha256 import sha256  # type: ignore[import-not-found,unused-ignore]

__all__ = [
    "AF_UNIX",
    "ITIMER_REAL",
    "SIGALRM",
    "SOCK_STREAM",
    "Socket",
    "a2b_base64",
    "compare_digest",
    "dumps",
    "environ",
    "loads",
    "read",
    "setitimer",
    "sha256",
    "signal",
    "write",
]

_BLANK = " \t\n\r"


def _refuse(constant: str) -> object:
    raise ValueError(f"{constant} is no JSON")


class _Rules:
    """What the scanner asks for: plain JSON, no NaN."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = staticmethod(_refuse)
    memo: dict[str, str] = {}  # noqa: RUF012  (the scanner's interface)


def loads(text: str) -> object:
    """The value of a JSON text; `ValueError` for anything else (also `RecursionError`)."""
    start = len(text) - len(text.lstrip(_BLANK))
    try:
        value, end = make_scanner(_Rules())(text, start)  # type: ignore[arg-type]
    except StopIteration as error:
        raise ValueError(f"a value is expected at character {error.value}") from None
    except SystemError:
        # How 3.11's scanner fails when `json.decoder`, where its error lives, was never imported.
        raise ValueError("it is not well-formed") from None
    if text[end:].strip(_BLANK):
        raise ValueError(f"there is more text at character {end}")
    return value


def dumps(value: object) -> str:
    """JSON of dicts, lists, strings, finite numbers, booleans and None."""
    if isinstance(value, str):
        return encode_basestring_ascii(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{dumps(str(key))}:{dumps(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(dumps, value)) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (int, float)):
        return repr(value)
    raise TypeError(f"{type(value).__name__} has no place in a message")
