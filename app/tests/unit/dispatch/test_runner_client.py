from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from labfleet.config import DispatcherSection
from labfleet.dispatch.runner_client import HttpRunner, Message, RunnerRejected, RunnerUnavailable, Status
from labfleet.errors import ConfigError

Answer = Callable[[list[Message]], tuple[int, Any]]


class Server(ThreadingHTTPServer):
    """Answers as `answer` says and keeps what it was asked."""

    answer: Answer
    asked: list[tuple[str, str | None, list[Message]]]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        messages = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["messages"]
        self.server.asked.append((self.path, self.headers["Authorization"], messages))
        status, body = self.server.answer(messages)
        payload = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), Handler)
    server.asked = []
    server.answer = lambda messages: (200, confirmed(messages))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def runner(server: Server) -> Iterator[HttpRunner]:
    url = f"http://127.0.0.1:{server.server_port}"
    runner = HttpRunner(DispatcherSection(runner_urls=[url], timeout_seconds=2), "secret")
    yield runner
    runner.close()


def messages(count: int) -> list[Message]:
    return [{"task": str(uuid.uuid4()), "attempt": 1} for _ in range(count)]


def confirmed(messages: list[Message]) -> dict[str, Any]:
    return {"results": [{**message, "status": "confirmed"} for message in messages]}


def test_a_batch_goes_out_in_one_request_with_the_password(server: Server, runner: HttpRunner) -> None:
    batch = messages(3)
    statuses = runner.send("schedule", batch)
    assert set(statuses.values()) == {Status.CONFIRMED}
    assert {str(task) for task, _ in statuses} == {message["task"] for message in batch}
    assert server.asked == [("/runner/v1/schedule", "Basic d2ViOnNlY3JldA==", batch)]


def test_a_url_may_carry_the_path_of_the_api(server: Server) -> None:
    url = f"http://127.0.0.1:{server.server_port}/runner/v1/"
    runner = HttpRunner(DispatcherSection(runner_urls=[url]), "secret")
    runner.send("cancel", messages(1))
    runner.close()
    assert server.asked[0][0] == "/runner/v1/cancel"


def test_one_bad_message_does_not_hold_up_the_others(server: Server, runner: HttpRunner) -> None:
    batch = messages(9)
    bad = batch[4]

    def answer(given: list[Message]) -> tuple[int, Any]:
        return (422, {"code": "invalid"}) if bad in given else (200, confirmed(given))

    server.answer = answer
    statuses = runner.send("schedule", batch)
    assert len(statuses) == 8
    assert uuid.UUID(bad["task"]) not in {task for task, _ in statuses}


def test_a_single_message_that_is_refused_says_why(server: Server, runner: HttpRunner) -> None:
    server.answer = lambda _: (422, {"detail": "'key' must be dotted words"})
    with pytest.raises(RunnerRejected, match="dotted words"):
        runner.send("schedule", messages(1))


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (401, {"code": "unauthorized"}),
        (503, "upstream"),
        (504, ""),
        (200, "no json"),
        (200, {"results": [{"task": "x"}]}),
        (200, {"results": [{"task": str(uuid.uuid4()), "attempt": 1, "status": "perhaps"}]}),
        (200, []),
    ],
)
def test_any_other_answer_means_that_nothing_is_known(
    server: Server, runner: HttpRunner, status: int, body: Any
) -> None:
    server.answer = lambda _: (status, body)
    with pytest.raises(RunnerUnavailable) as caught:
        runner.send("schedule", messages(2))
    assert not isinstance(caught.value, RunnerRejected)


def test_nobody_listening_means_that_nothing_is_known() -> None:
    runner = HttpRunner(DispatcherSection(runner_urls=["http://127.0.0.1:9"]), "secret")
    with pytest.raises(RunnerUnavailable, match="ConnectError"):
        runner.send("schedule", messages(1))
    runner.close()


def test_another_machine_takes_what_one_does_not(server: Server) -> None:
    urls = ["http://127.0.0.1:9", f"http://127.0.0.1:{server.server_port}"]
    runner = HttpRunner(DispatcherSection(runner_urls=urls, timeout_seconds=2), "secret")
    assert len(runner.send("schedule", messages(2))) == 2
    # It keeps to the one that answered; when that one is away too, the error is told and nothing is known.
    server.answer = lambda _: (503, "upstream")
    with pytest.raises(RunnerUnavailable, match="ConnectError"):
        runner.send("schedule", messages(1))
    server.answer = lambda given: (200, confirmed(given))
    assert len(runner.send("schedule", messages(1))) == 1
    runner.close()


def test_a_refused_message_is_not_taken_to_another_machine(server: Server) -> None:
    urls = [f"http://127.0.0.1:{server.server_port}"] * 2
    runner = HttpRunner(DispatcherSection(runner_urls=urls, timeout_seconds=2), "secret")
    server.answer = lambda _: (422, {"detail": "'key' must be dotted words"})
    with pytest.raises(RunnerRejected):
        runner.send("schedule", messages(1))
    assert len(server.asked) == 1
    runner.close()


def test_a_ca_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    section = DispatcherSection(runner_urls=["https://127.0.0.1"], ca_file=tmp_path / "ca.pem")
    with pytest.raises(ConfigError, match=r"ca\.pem"):
        HttpRunner(section, "secret")
    (tmp_path / "ca.pem").write_text("nothing", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"ca\.pem"):
        HttpRunner(section, "secret")
