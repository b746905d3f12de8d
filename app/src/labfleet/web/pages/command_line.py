"""The command line `labfleet` for people's own computers: how to install it, and this release's wheel."""

from __future__ import annotations

import sys
from pathlib import Path

from flask import Response, abort, render_template, send_file

from labfleet.web.pages.frame import pages
from labfleet.web.services import services


@pages.get("/command-line")
def command_line() -> str:
    """How to get it and to sign in."""
    found = _wheel()
    address = services().settings.web.public_url.rstrip("/")
    return render_template(
        "command_line.html", section="Command line", wheel=found.name if found else "", address=address
    )


@pages.get("/command-line/<name>")
def command_line_wheel(name: str) -> Response:
    """The wheel; 404 for any other name. No secret is in it: it is asked for without signing in."""
    found = _wheel()
    if found is None or found.name != name:
        abort(404)
    return send_file(found, mimetype="application/octet-stream", as_attachment=True, download_name=name)


def _wheel() -> Path | None:
    """Where the release keeps it (role `app`); none where the code runs from a source tree."""
    return min((Path(sys.prefix) / "share" / "command-line").glob("labfleet-*.whl"), default=None)
