"""Where the server is and the token for it: the environment, else the file that `labfleet login` wrote."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

from labfleet.errors import LabfleetError


class NotSignedIn(LabfleetError):
    """No server or no token is known."""

    code: ClassVar[str] = "not_signed_in"
    title: ClassVar[str] = "Not signed in"
    default_hint: ClassVar[str] = "Run 'labfleet login URL', or set LABFLEET_URL and LABFLEET_TOKEN."


@dataclass(frozen=True)
class Credentials:
    """A server, and how to be known there. `ca_file` is the CA that signed the server's certificate."""

    url: str
    token: str
    ca_file: str | None = None
    user: str | None = None


def credentials_path() -> Path:
    """`~/.config/labfleet/credentials.json`, or below `XDG_CONFIG_HOME`."""
    home = os.environ.get("XDG_CONFIG_HOME")
    return (Path(home) if home else Path.home() / ".config") / "labfleet" / "credentials.json"


def load() -> Credentials:
    """The environment goes before the file; `NotSignedIn` if they don't make a whole."""
    kept = _read(credentials_path())
    url = os.environ.get("LABFLEET_URL") or kept.get("url")
    # A token is for the server it was made by: never send the kept one elsewhere.
    same = url is not None and url.rstrip("/") == (kept.get("url") or "").rstrip("/")
    token = os.environ.get("LABFLEET_TOKEN") or (kept.get("token") if same else None)
    if not url:
        raise NotSignedIn("No server is known.")
    if not token:
        raise NotSignedIn(f"There is no token for {url}.")
    ca_file = os.environ.get("LABFLEET_CA_FILE") or (kept.get("ca_file") if same else None)
    return Credentials(url, token, ca_file, kept.get("user") if same else None)


def save(credentials: Credentials) -> Path:
    """Keep `credentials`, readable for this user only from the first moment; gives the file."""
    path = credentials_path()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = path.with_suffix(f".{os.getpid()}.part")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(asdict(credentials), file, indent=2)
        file.write("\n")
    part.replace(path)
    return path


def _read(path: Path) -> dict[str, str | None]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise NotSignedIn(f"{path} can't be read: {error}.") from None
    known = Credentials.__dataclass_fields__
    return {k: v for k, v in value.items() if k in known} if isinstance(value, dict) else {}
