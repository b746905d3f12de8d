"""The `[runner]` section of the file that `LABFLEET_CONFIG` names, read without TOML's parser.

Its values are numbers and plain strings, which need no parser; a file that is written in
another manner is given to `tomllib`, which costs 10 ms and is right.
"""

from labfleet.runner.lean import environ
from labfleet.runner.problem import misconfigured

DEFAULTS: dict[str, object] = {
    "socket": "/run/labfleet-publisher/publisher.sock",
    "timeout_seconds": 15,
    "max_body_bytes": 16 * 1024**2,
    "max_batch": 1000,
}
"""The same as `labfleet.config.RunnerSection`; a test compares them."""


class Limits:
    """`socket` (path), `timeout_seconds`, `max_body_bytes`, `max_batch`."""

    def __init__(self, values: dict[str, object]) -> None:
        self.socket = str(values["socket"])
        self.timeout_seconds = float(str(values["timeout_seconds"]))
        self.max_body_bytes = int(str(values["max_body_bytes"]))
        self.max_batch = int(str(values["max_batch"]))


def read_limits() -> Limits:
    """The configured limits; a `Problem` (500) that names the file when it can't be read."""
    path = environ.get(b"LABFLEET_CONFIG", b"").decode()
    if not path:
        raise misconfigured("LABFLEET_CONFIG is not set.")
    try:
        with open(path, encoding="utf-8") as file:  # noqa: PTH123  (pathlib costs 8 ms)
            text = file.read()
        return Limits({**DEFAULTS, **section(text)})
    except (OSError, ValueError) as error:
        raise misconfigured(f"{path}: {error}") from None


def section(text: str) -> dict[str, object]:
    """The table `[runner]` of a TOML text."""
    if '"""' in text or "'''" in text:
        return _by_the_book(text)
    values: dict[str, object] = {}
    inside = False
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            inside = line == "[runner]"
        elif inside and line and not line.startswith("#"):
            key, _, value = line.partition("=")
            plain = _plain(value.strip())
            if plain is None:
                return _by_the_book(text)
            values[key.strip()] = plain
    return values


def _plain(value: str) -> int | float | str | None:
    if value.isdecimal():
        return int(value)
    if value.replace(".", "", 1).isdecimal():
        return float(value)
    if len(value) > 1 and value[0] == value[-1] == '"' and not ({'"', "\\"} & set(value[1:-1])):
        return value[1:-1]
    return None


def _by_the_book(text: str) -> dict[str, object]:
    import tomllib  # noqa: PLC0415  (only for unusual files)

    table = tomllib.loads(text).get("runner", {})
    return table if isinstance(table, dict) else {}
