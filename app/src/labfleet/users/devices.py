"""What a browser says of itself, in words that its user knows again."""

from __future__ import annotations

# Each calls itself by the names of those below it as well: the first that fits counts.
_BROWSERS = (
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("Firefox/", "Firefox"),
    ("FxiOS/", "Firefox"),
    ("Chrome/", "Chrome"),
    ("CriOS/", "Chrome"),
    ("Safari/", "Safari"),
)
_SYSTEMS = (
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("CrOS", "ChromeOS"),
    ("Windows", "Windows"),
    ("Macintosh", "macOS"),
    ("Linux", "Linux"),
)
UNKNOWN = "Unknown browser"


def device(agent: str) -> str:
    """`Firefox on Linux` for a User-Agent; the parts that nobody knows are left out."""
    browser = _first(_BROWSERS, agent) or UNKNOWN
    system = _first(_SYSTEMS, agent)
    return f"{browser} on {system}" if system else browser


def _first(known: tuple[tuple[str, str], ...], agent: str) -> str | None:
    return next((name for mark, name in known if mark in agent), None)
