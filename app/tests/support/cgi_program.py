"""A publisher for the CGI program to talk to: a real unix socket that remembers the questions."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from base64 import b64encode
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import labfleet.runner.cgi

PASSWORD = "a-password-of-at-least-thirty-two-characters"


@dataclass
class Reply:
    """What the CGI program printed."""

    status: int
    headers: dict[str, str]
    body: Any


@dataclass
class Bystander:
    """The other end of the publisher's socket. `answer` None: it takes the question and says nothing."""

    path: Path
    answer: dict[str, Any] | None = field(default_factory=lambda: {"status": 200, "body": {"results": []}})
    questions: list[dict[str, Any]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    silence: threading.Event = field(default_factory=threading.Event)


@dataclass
class Cgi:
    """Runs the program as fcgiwrap does: an isolated interpreter without `site`, CGI's environment."""

    directory: Path
    socket: Path

    def __call__(
        self,
        verb: str,
        body: bytes | dict[str, Any] = b"",
        *,
        method: str = "POST",
        user: str = "web",
        password: str | None = PASSWORD,
        **environment: str,
    ) -> Reply:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        variables = {
            "REQUEST_METHOD": method,
            "DOCUMENT_URI": f"/runner/v1/{verb}",
            "CONTENT_LENGTH": str(len(data)),
            "LABFLEET_CONFIG": str(self.directory / "queue.toml"),
            "CREDENTIALS_DIRECTORY": str(self.directory),
            **environment,
        }
        if password is not None:
            variables["HTTP_AUTHORIZATION"] = "Basic " + b64encode(f"{user}:{password}".encode()).decode()
        program = str(labfleet.runner.cgi.__file__)
        done = subprocess.run(
            [sys.executable, "-I", "-S", program],
            input=data,
            env={name: value for name, value in variables.items() if value},
            capture_output=True,
            check=True,
        )
        assert done.stderr == b""
        return parse(done.stdout)

    def configure(self, **values: Any) -> None:
        """Write `[runner]`."""
        lines = [f"{name} = {json.dumps(value)}" for name, value in values.items()]
        (self.directory / "queue.toml").write_text(
            f'[runner]\nsocket = "{self.socket}"\n' + "\n".join(lines) + "\n[publisher]\nvhost = 'x'\n"
        )


def parse(output: bytes) -> Reply:
    head, _, body = output.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
    assert int(headers["Content-Length"]) == len(body)
    return Reply(int(headers.pop("Status")), headers, json.loads(body))
