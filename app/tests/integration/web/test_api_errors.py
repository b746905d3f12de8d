"""Whatever is sent, the answer is a problem document with a stable code and a hint, never a 5xx."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from apiflask import APIFlask
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import create_engine
from sqlalchemy.orm import sessionmaker
from werkzeug.test import TestResponse

from labfleet.db.models import User
from labfleet.web.services import EXTENSION, Services

JSON = {"Content-Type": "application/json"}


def told(answer: TestResponse) -> tuple[int, str]:
    assert answer.content_type == "application/problem+json", answer.text
    problem = json.loads(answer.data)
    assert {"type", "title", "status", "detail", "code", "hint"} <= set(problem)
    assert problem["status"] == answer.status_code
    assert problem["detail"] and problem["hint"]
    return answer.status_code, problem["code"]


@pytest.mark.parametrize(
    ("method", "path", "options", "expected"),
    [
        ("GET", "nothing", {}, (404, "not_found")),
        ("GET", "jobs/no-uuid", {}, (404, "not_found")),
        ("GET", "jobs/00000000-0000-0000-0000-000000000000", {}, (404, "not_found")),
        ("GET", "tasks/00000000-0000-0000-0000-000000000000/log", {}, (404, "not_found")),
        ("GET", "artifacts/00000000-0000-0000-0000-000000000000/content", {}, (404, "not_found")),
        ("GET", "datasets/00000000-0000-0000-0000-000000000000", {}, (404, "unknown_dataset")),
        ("GET", "protocols/none", {}, (404, "unknown_protocol")),
        ("GET", "protocols/greet/interface?version=9", {}, (404, "unknown_version")),
        ("DELETE", "jobs", {}, (405, "method_not_allowed")),
        ("GET", "jobs?after=x", {}, (422, "invalid")),
        ("GET", "jobs?after=00000000-0000-0000-0000-000000000000", {}, (422, "invalid")),
        ("GET", "jobs?limit=0", {}, (422, "invalid")),
        ("GET", "jobs?limit=99999999999999999999", {}, (422, "invalid")),
        ("GET", "jobs?state=done", {}, (422, "invalid")),
        ("GET", "jobs?until=2026", {}, (422, "invalid")),
        ("GET", "jobs?since=0.5", {}, (422, "invalid")),
        ("GET", "jobs?colour=red", {}, (422, "invalid")),
        ("GET", "jobs?after=%00", {}, (400, "malformed")),
        ("GET", "protocols/a%00b", {}, (400, "malformed")),
        ("GET", "protocols/%FF%FE", {}, (404, "unknown_protocol")),
        ("POST", "jobs", {"data": "{", "headers": JSON}, (400, "malformed")),
        ("POST", "jobs", {"data": b"\xff", "headers": JSON}, (400, "malformed")),
        ("POST", "jobs", {"data": "[" * 40_000, "headers": JSON}, (400, "malformed")),
        ("POST", "jobs", {"data": "9" * 5_000, "headers": JSON}, (400, "malformed")),
        ("POST", "jobs", {"data": '{"protocol": NaN}', "headers": JSON}, (422, "invalid")),
        ("POST", "jobs", {"data": "[]", "headers": JSON}, (422, "invalid_job")),
        ("POST", "jobs", {"data": "null", "headers": JSON}, (422, "invalid")),
        ("POST", "jobs/bulk", {"json": {"verb": "hold", "filter": {"until": 0}}}, (422, "invalid")),
        ("POST", "jobs", {"data": "{}"}, (415, "unsupported_media_type")),
        ("POST", "jobs", {"data": "x" * 210_000, "headers": JSON}, (413, "too_large")),
        ("POST", "jobs", {"json": {"protocol": "greet", "colour": "red"}}, (422, "invalid_job")),
        ("POST", "jobs", {"json": {"protocol": ["greet"]}}, (422, "invalid_job")),
        ("POST", "jobs", {"json": {"protocol": "gr\0eet"}}, (422, "invalid")),
        ("POST", "jobs", {"json": {"protocol": "none"}}, (404, "unknown_protocol")),
        ("POST", "jobs", {"json": {"protocol": "greet", "version": "9"}}, (404, "unknown_version")),
        (
            "POST",
            "jobs",
            {"json": {"protocol": "greet", "parameters": {"times": 99}}},
            (422, "invalid_parameters"),
        ),
        ("POST", "jobs", {"json": {"protocol": "greet", "parameters": {"times": 10**30}}}, (422, "invalid")),
        ("POST", "jobs", {"json": {"protocol": "greet", "inputs": {"table": "x"}}}, (422, "invalid_job")),
        (
            "POST",
            "jobs",
            {"json": {"protocol": "greet", "inputs": {"table": "00000000-0000-0000-0000-000000000000"}}},
            (404, "unknown_dataset"),
        ),
        (
            "POST",
            "jobs",
            {"json": {"protocol": "greet"}, "headers": {"Idempotency-Key": "x" * 201}},
            (422, "invalid"),
        ),
        ("POST", "protocols/check", {"data": b"rubbish"}, (422, "invalid_archive")),
        ("POST", "datasets?name=..%2Fx", {"data": b"x"}, (422, "bad_name")),
        ("POST", "datasets?name=a%0Ab", {"data": b"x"}, (422, "bad_name")),
        ("POST", "datasets", {"data": b"x"}, (422, "invalid")),
        ("PUT", "workers/worker-1", {"json": {}}, (401, "unauthorized")),
    ],
)
def test_bad_requests(
    api: Callable[..., TestResponse], method: str, path: str, options: Any, expected: tuple[int, str]
) -> None:
    assert told(api(method, path, **options)) == expected


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@hypothesis_settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    body=ANYTHING
    | st.fixed_dictionaries(
        {"protocol": st.just("greet")},
        optional={"parameters": ANYTHING, "inputs": ANYTHING, "label": ANYTHING, "version": ANYTHING},
    )
)
def test_no_body_is_answered_with_a_fault_of_ours(api: Callable[..., TestResponse], body: Any) -> None:
    answer = api("POST", "jobs", data=json.dumps(body), headers=JSON)
    assert answer.status_code == 201 or 400 <= answer.status_code < 500
    if answer.status_code != 201:
        told(answer)


def test_without_a_database_it_says_come_back(
    app: APIFlask, parts: Services, caller: Callable[[User], Any], user: User
) -> None:
    call = caller(user)
    gone = create_engine("postgresql+psycopg://nobody@127.0.0.1:9/none", connect_args={"connect_timeout": 1})
    app.extensions[EXTENSION] = Services(**{**parts.__dict__, "sessions": sessionmaker(gone)})
    answer = call("GET", "jobs")
    assert told(answer) == (503, "unavailable")
    assert int(answer.headers["Retry-After"]) > 0
    ready = app.test_client().get("/api/v1/ready")
    assert ready.status_code == 503
    assert ready.json == {"ready": False, "checks": {"database": False, "store": True, "queue": False}}
    assert app.test_client().get("/api/v1/health").status_code == 200


def test_a_bug_is_told_without_its_inside(app: APIFlask, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("secret inside")

    app.config["PROPAGATE_BUGS"] = False
    monkeypatch.setitem(app.view_functions, "anyone.health", broken)
    answer = app.test_client().get("/api/v1/health")
    assert told(answer) == (500, "internal_error")
    assert "secret" not in answer.text
