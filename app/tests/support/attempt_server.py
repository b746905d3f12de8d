"""A front end for tests: a real HTTP server that speaks the attempt API and remembers what it heard.

It keeps the rules that matter to a worker: a token for one attempt, claims, log offsets, fencing.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

LIMITS = {
    "wall_seconds": 20,
    "memory_bytes": 512 * 1024**2,
    "log_bytes": 100_000,
    "output_bytes": 20_000_000,
    "processes": 50,
}


@dataclass
class Attempt:
    """One attempt as the server sees it."""

    task: str
    number: int = 1
    token: str = "la_token"
    files: dict[str, str | bytes] = field(default_factory=dict)
    command: list[str] = field(default_factory=lambda: ["python3", "main.py"])
    outputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    inputs: dict[str, bytes] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)
    limits: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    claim_id: str | None = None
    cancel: bool = False
    superseded: bool = False
    log: bytes = b""
    progress: list[tuple[float, str]] = field(default_factory=list)
    artifacts: dict[str, bytes] = field(default_factory=dict)
    artifact_queries: dict[str, dict[str, str]] = field(default_factory=dict)
    heartbeats: int = 0
    fetches: int = 0
    inputs_fetched: list[str] = field(default_factory=list)
    finish: dict[str, Any] | None = None
    claims: int = 0

    def answer_to_claim(self) -> dict[str, Any]:
        """The body of a granted claim."""
        return {
            "lease_seconds": 10.0,
            "heartbeat_seconds": 0.5,
            "protocol": {
                "name": "test",
                "version": "1.0.0",
                "commit": hashlib.sha1(self.tar(), usedforsecurity=False).hexdigest(),
                "command": self.command,
                "outputs": self.outputs,
                "needs": {"cores": 1, "packages": []},
                "environment": self.environment,
            },
            "parameters": self.parameters,
            "inputs": [
                {"slot": slot, "name": f"{slot}.csv", "sha256": digest(data), "size": len(data)}
                for slot, data in self.inputs.items()
            ],
            "limits": LIMITS | self.limits,
        }

    def tar(self) -> bytes:
        """The protocol's archive."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for name, content in self.files.items():
                data = content.encode() if isinstance(content, str) else content
                info = tarfile.TarInfo(name)
                info.size, info.mode = len(data), 0o755
                tar.addfile(info, io.BytesIO(data))
        return buffer.getvalue()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class FrontEnd(ThreadingHTTPServer):
    """Listens on a free port of the loopback. `failures` makes the next requests answer 503, `full` all that
    bring an artifact."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.attempts: dict[tuple[str, int], Attempt] = {}
        self.workers: dict[str, list[dict[str, Any]]] = {}
        self.draining = False
        self.failures = 0
        self.full = False
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def add(self, attempt: Attempt) -> Attempt:
        self.attempts[attempt.task, attempt.number] = attempt
        return attempt


class Refusal(Exception):
    def __init__(self, status: int, code: str, **extra: Any) -> None:
        super().__init__(code)
        self.status = status
        self.problem = {"status": status, "code": code, "detail": code} | extra


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # An answer leaves in one piece, as nginx's does: else each would wait for an acknowledgement (40 ms).
    wbufsize = -1
    disable_nagle_algorithm = True
    server: FrontEnd

    def do_GET(self) -> None:
        self._handle()

    do_POST = do_PUT = do_GET  # noqa: N815  (BaseHTTPRequestHandler's names)

    def log_message(self, format: str, *args: Any) -> None:
        return

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with self.server.lock:
            try:
                self._take_failure()
                status, answer = 200, self._route(body)
            except Refusal as refusal:
                status, answer = refusal.status, refusal.problem
        payload = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def _take_failure(self) -> None:
        if self.server.failures > 0:
            self.server.failures -= 1
            raise Refusal(503, "unavailable")

    def _route(self, body: bytes) -> Any:
        parts = urlsplit(self.path)
        words = [unquote(word) for word in parts.path.split("/")]
        if words[3] == "workers":
            self.server.workers.setdefault(words[4], []).append(json.loads(body))
            return {"name": words[4], "draining": self.server.draining}
        attempt = self.server.attempts.get((words[4], int(words[5])))
        if attempt is None or self.headers["Authorization"] != f"Bearer {attempt.token}":
            raise Refusal(401, "unauthorized")
        if attempt.superseded or (attempt.finish and words[6] != "finish"):
            raise Refusal(409, "attempt_superseded")
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        return getattr(self, f"_{words[6]}")(attempt, body, query, "/".join(words[7:]))

    def _claim(self, attempt: Attempt, body: bytes, query: dict[str, str], rest: str) -> Any:
        attempt.claims += 1
        claim = json.loads(body)
        if attempt.claim_id not in {None, claim["claim_id"]}:
            raise Refusal(409, "already_claimed")
        attempt.claim_id = claim["claim_id"]
        return attempt.answer_to_claim()

    def _heartbeat(self, attempt: Attempt, body: bytes, query: dict[str, str], rest: str) -> Any:
        attempt.heartbeats += 1
        content = json.loads(body or b"{}")
        if "progress" in content:
            attempt.progress.append((content["progress"], content["progress_text"]))
        return {"lease_seconds": 10.0, "cancel": attempt.cancel}

    def _log(self, attempt: Attempt, body: bytes, query: dict[str, str], rest: str) -> Any:
        offset = int(query["offset"])
        if offset > len(attempt.log):
            raise Refusal(409, "log_gap", expected_offset=len(attempt.log))
        attempt.log = attempt.log[:offset] + body
        return {"size": len(attempt.log)}

    def _protocol(self, attempt: Attempt, body: bytes, query: dict[str, str], rest: str) -> Any:
        attempt.fetches += 1
        return attempt.tar()

    def _inputs(self, attempt: Attempt, body: bytes, query: dict[str, str], rest: str) -> Any:
        attempt.inputs_fetched.append(rest)
        return attempt.inputs[rest]

    def _artifacts(self, attempt: Attempt, body: bytes, query: dict[str, str], rest: str) -> Any:
        if self.server.full:
            raise Refusal(503, "store_unavailable", detail="No space left on device.")
        if digest(body) != self.headers["X-Content-SHA256"]:
            raise Refusal(422, "checksum")
        attempt.artifacts[rest] = body
        attempt.artifact_queries[rest] = query
        return {"name": rest}

    def _finish(self, attempt: Attempt, body: bytes, query: dict[str, str], rest: str) -> Any:
        attempt.finish = json.loads(body)
        return {"state": "success", "attempt": attempt.number}
