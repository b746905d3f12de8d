"""The CGI program, as a real process: what it lets through and what it refuses by itself."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import uuid
from typing import Any

import pytest
from cgi_program import PASSWORD, Bystander, Cgi

TASK = "0c2e4a3e-6f64-4a1b-9c55-0a4a4e1b7d11"
MESSAGE = {"task": TASK, "attempt": 1, "key": "python", "token": "la_x"}


def batch(**changes: Any) -> dict[str, Any]:
    return {"messages": [MESSAGE | changes]}


def test_a_batch_goes_on_with_the_name_of_its_front_end(cgi: Cgi, publisher: Bystander) -> None:
    publisher.answer = {"status": 200, "body": {"results": [{"task": TASK, "status": "confirmed"}]}}

    reply = cgi("schedule", batch())

    assert (reply.status, reply.body) == (200, publisher.answer["body"])
    assert reply.headers["Content-Type"] == "application/json"
    assert publisher.questions == [
        {"verb": "schedule", "front_end": "web", "request": "", "messages": [MESSAGE]}
    ]


def test_a_message_may_name_a_worker(cgi: Cgi, publisher: Bystander) -> None:
    assert cgi("schedule", batch(worker="Node-1.lab")).status == 200
    assert publisher.questions[0]["messages"] == [MESSAGE | {"worker": "Node-1.lab"}]

    assert cgi("cancel", {"messages": [{"task": TASK, "attempt": 3, "worker": "w1"}]}).status == 422


def test_a_cancel_has_neither_key_nor_token(cgi: Cgi, publisher: Bystander) -> None:
    reply = cgi("cancel", {"messages": [{"task": TASK, "attempt": 3}]})

    assert reply.status == 200
    assert publisher.questions[0]["messages"] == [{"task": TASK, "attempt": 3}]


@pytest.mark.parametrize("verb", ["check", "interface"])
def test_an_archive_goes_on_as_it_is(cgi: Cgi, publisher: Bystander, verb: str) -> None:
    archive = bytes(range(256)) * 1000

    assert cgi(verb, archive).status == 200

    assert publisher.questions == [{"verb": verb, "front_end": "web", "request": "", "size": len(archive)}]
    assert publisher.bodies == [archive]


def test_health_needs_no_password(cgi: Cgi, publisher: Bystander) -> None:
    publisher.answer = {"status": 200, "body": {"status": "ok"}}

    assert cgi("health", method="GET", password=None).body == {"status": "ok"}


@pytest.mark.parametrize(
    "credentials",
    [
        {"password": None},
        {"password": "wrong"},
        {"password": ""},
        {"user": "nobody"},
        {"password": None, "HTTP_AUTHORIZATION": "Bearer la_x"},
        {"password": None, "HTTP_AUTHORIZATION": "Basic %%%"},
        {"password": None, "HTTP_AUTHORIZATION": "Basic /////w=="},
    ],
)
def test_without_the_right_password_nothing_goes_on(
    cgi: Cgi, publisher: Bystander, credentials: dict[str, Any]
) -> None:
    reply = cgi("schedule", batch(), **credentials)

    assert (reply.status, reply.body["code"]) == (401, "unauthorized")
    assert reply.headers["WWW-Authenticate"].startswith("Basic")
    assert reply.headers["Content-Type"] == "application/problem+json"
    assert publisher.questions == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[1,2", 400),
        (b"\xff\xfe", 400),
        (b'{"messages": []} x', 400),
        (b'{"messages": [NaN]}', 400),
        (b"[" * 100_000, 400),
        (b"[]", 422),
        (b"null", 422),
        (b'{"messages": []}', 422),
        (b'{"messages": {}}', 422),
        (b'{"messages": [1]}', 422),
        (b'{"messages": [{}], "more": 1}', 422),
    ],
)
def test_what_is_no_batch_is_refused(cgi: Cgi, publisher: Bystander, body: bytes, status: int) -> None:
    reply = cgi("schedule", body)

    assert reply.status == status
    assert reply.body["hint"]
    assert publisher.questions == []


@pytest.mark.parametrize(
    "change",
    [
        {"task": "x"},
        {"task": TASK.upper()},
        {"task": None},
        {"task": TASK + "\n"},
        {"attempt": 0},
        {"attempt": "1"},
        {"attempt": True},
        {"attempt": 1.0},
        {"attempt": 2**31},
        {"key": ""},
        {"key": "a..b"},
        {"key": "#"},
        {"key": "python.*"},
        {"key": "a" * 101},
        {"key": "worker"},
        {"key": "worker.w1"},
        {"worker": ""},
        {"worker": "a b"},
        {"worker": "w1.#"},
        {"worker": "w*"},
        {"worker": None},
        {"worker": "a" * 101},
        {"token": ""},
        {"token": "with blank"},
        {"token": "x" * 513},
        {"token": 1},
        {"front_end": "other"},
    ],
)
def test_one_bad_message_refuses_the_batch(cgi: Cgi, publisher: Bystander, change: dict[str, Any]) -> None:
    good = MESSAGE | {"task": str(uuid.uuid4())}

    reply = cgi("schedule", {"messages": [good, MESSAGE | change]})

    assert (reply.status, reply.body["code"]) == (422, "invalid")
    assert "messages[1]" in reply.body["detail"]
    assert publisher.questions == []


def test_an_attempt_stands_in_a_batch_once(cgi: Cgi, publisher: Bystander) -> None:
    assert cgi("schedule", {"messages": [MESSAGE, MESSAGE]}).status == 422
    assert publisher.questions == []


def test_a_batch_has_its_most(cgi: Cgi, publisher: Bystander) -> None:
    cgi.configure(max_batch=2)
    messages = [MESSAGE | {"attempt": number} for number in (1, 2, 3)]

    assert cgi("schedule", {"messages": messages}).status == 413
    assert cgi("schedule", {"messages": messages[:2]}).status == 200
    assert len(publisher.questions) == 1


@pytest.mark.parametrize("verb", ["schedule", "check"])
def test_a_large_body_is_refused_unread(cgi: Cgi, publisher: Bystander, verb: str) -> None:
    cgi.configure(max_body_bytes=1000)

    # Nothing is sent at all: a program that tried to read would fail otherwise.
    reply = cgi(verb, b"", CONTENT_LENGTH="1001")

    assert (reply.status, reply.body["code"]) == (413, "too_large")
    assert publisher.questions == []


@pytest.mark.parametrize(("length", "status"), [("", 411), ("x", 400), ("-1", 400), ("²", 400), ("1e3", 400)])
def test_the_length_must_be_known(cgi: Cgi, length: str, status: int) -> None:
    assert cgi("schedule", batch(), CONTENT_LENGTH=length).status == status


def test_a_body_that_is_cut_off_is_refused(cgi: Cgi, publisher: Bystander) -> None:
    assert cgi("schedule", b'{"messages"', CONTENT_LENGTH="500").status == 400
    assert publisher.questions == []


@pytest.mark.parametrize(
    ("verb", "method", "status"),
    [
        ("schedule", "GET", 405),
        ("health", "POST", 405),
        ("nothing", "POST", 404),
        ("../v1/schedule", "POST", 404),
        ("", "GET", 404),
    ],
)
def test_unknown_calls(cgi: Cgi, verb: str, method: str, status: int) -> None:
    assert cgi(verb, batch(), method=method).status == status


def test_without_a_publisher_it_says_so(cgi: Cgi, publisher: Bystander) -> None:
    publisher.path.unlink()

    reply = cgi("schedule", batch())

    assert (reply.status, reply.headers["Retry-After"]) == (503, "5")
    assert "labfleet-publisher" in reply.body["hint"]


def test_it_ends_itself_when_the_publisher_hangs(cgi: Cgi, publisher: Bystander) -> None:
    publisher.answer = None
    cgi.configure(timeout_seconds=0.3)

    reply = cgi("schedule", batch())

    assert (reply.status, reply.body["code"]) == (504, "timeout")


def test_the_publishers_refusal_is_passed_on(cgi: Cgi, publisher: Bystander) -> None:
    publisher.answer = {"status": 503, "body": {"code": "unavailable", "limit": 0.5, "more": None}}

    reply = cgi("schedule", batch())

    assert (reply.status, reply.body) == (503, publisher.answer["body"])
    assert reply.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("variable", ["LABFLEET_CONFIG", "CREDENTIALS_DIRECTORY"])
def test_a_missing_configuration_is_told(cgi: Cgi, variable: str) -> None:
    reply = cgi("schedule", batch(), **{variable: ""})

    assert (reply.status, reply.body["code"]) == (500, "config_error")


def test_both_passwords_are_good_while_one_is_changed(cgi: Cgi, publisher: Bystander) -> None:
    publisher.answer = {"status": 200, "body": {"results": []}}
    new = "the-new-one-of-at-least-thirty-two-characters"
    digests = [hashlib.sha256(word.encode()).hexdigest() for word in (PASSWORD, new)]
    (cgi.directory / "front_ends").write_text(json.dumps({"web": digests}))

    assert [cgi("schedule", batch(), password=word).status for word in (PASSWORD, new, "x")] == [
        200,
        200,
        401,
    ]


@pytest.mark.parametrize("content", ["", "[]", "{"])
def test_a_broken_credential_is_told(cgi: Cgi, content: str) -> None:
    (cgi.directory / "front_ends").write_text(content)

    assert cgi("schedule", batch()).status == 500


def test_it_imports_next_to_nothing() -> None:
    """Its start is most of what a request costs: no module that takes milliseconds may come back."""
    code = "import sys; sys.path.insert(0, sys.argv[1]); import labfleet.runner.cgi; print(*sys.modules)"
    root = str(__import__("labfleet.runner.cgi").runner.cgi.__file__).rpartition("/labfleet/")[0]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, root], capture_output=True, text=True, check=True
    )

    slow = {"re", "json", "socket", "hashlib", "typing", "tomllib", "signal", "enum", "os", "site"}
    assert not slow & set(done.stdout.split())
