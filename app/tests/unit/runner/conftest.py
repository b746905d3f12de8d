"""Fixtures of the runner's tests."""

from __future__ import annotations

import hashlib
import json
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cgi_program import PASSWORD, Bystander, Cgi


@pytest.fixture
def publisher(tmp_path: Path) -> Iterator[Bystander]:
    heard = Bystander(tmp_path / "publisher.sock")

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            question = json.loads(self.rfile.readline())
            heard.questions.append(question)
            heard.bodies.append(self.rfile.read(question.get("size", 0)))
            if heard.answer is None:
                heard.silence.wait(10)
            else:
                self.wfile.write(json.dumps(heard.answer).encode() + b"\n")

    class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
        pass

    with Server(str(heard.path), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield heard
        heard.silence.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def cgi(tmp_path: Path, publisher: Bystander) -> Cgi:
    digest = hashlib.sha256(PASSWORD.encode()).hexdigest()
    (tmp_path / "front_ends").write_text(json.dumps({"web": digest}))
    program = Cgi(tmp_path, publisher.path)
    program.configure()
    return program
