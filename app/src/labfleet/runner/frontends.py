"""Which front end is asking: HTTP Basic against the SHA-256 of each front end's password.

The passwords are random and at least 32 characters long, so that one round of SHA-256 is enough
(a slow hash protects short passwords, and would cost every request its time).
"""

from labfleet.runner.lean import a2b_base64, compare_digest, environ, loads, sha256
from labfleet.runner.problem import Problem, misconfigured

_NOBODY = "0" * 64


def authenticate(header: bytes) -> str:
    """The front end's name; a `Problem` (401) unless its password is right."""
    name, password = _credentials(header)
    known = _known()
    given, right = sha256(password).hexdigest(), False
    # An unknown name costs the same work as a wrong password. While one is rotated, two may be right.
    for expected in known.get(name, [_NOBODY]):
        right |= compare_digest(given, expected)
    if not (right and name in known):
        raise Problem(
            401,
            "unauthorized",
            "Who are you?",
            "No front end has this name and password.",
            "Send HTTP Basic with the front end's name and password, as the queue role wrote them.",
        )
    return name


def _credentials(header: bytes) -> tuple[str, bytes]:
    scheme, _, coded = header.partition(b" ")
    if scheme.lower() != b"basic":
        return "", b""
    try:
        name, _, password = a2b_base64(coded).partition(b":")
        return name.decode(), password
    except ValueError:  # binascii.Error, UnicodeDecodeError
        return "", b""


def _known() -> dict[str, list[str]]:
    path = environ.get(b"CREDENTIALS_DIRECTORY", b"").decode() + "/front_ends"
    try:
        with open(path, encoding="utf-8") as file:  # noqa: PTH123  (pathlib costs 8 ms)
            table = loads(file.read())
    except (OSError, ValueError) as error:
        raise misconfigured(f"The credential {path} can't be read: {error}.") from None
    if not isinstance(table, dict):
        raise misconfigured(
            f"The credential {path} must be a JSON object: name → SHA-256, or a list of them."
        )
    return {
        str(name): [str(digest) for digest in (value if isinstance(value, list) else [value])]
        for name, value in table.items()
    }
