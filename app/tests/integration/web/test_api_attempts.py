"""The attempt API: claim, heartbeat, log, artifacts, finish, each fenced by the attempt's own token."""

from __future__ import annotations

import hashlib
import io
import tarfile
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from labfleet.db.models import Attempt
from labfleet.web.services import Services


def put(
    worker: Any, name: str, content: bytes, query: str = "kind=text&output=greeting", **headers: str
) -> Any:
    digest = hashlib.sha256(content).hexdigest()
    return worker(
        "PUT", f"artifacts/{name}?{query}", data=content, headers={"X-Content-SHA256": digest, **headers}
    )


def test_an_attempt_from_claim_to_finish(api: Any, attempt: Callable[..., Any], parts: Services) -> None:
    dataset = api.upload("t.csv", b"a\n1\n")
    job = api.submit(parameters={"who": "Ada"}, inputs={"table": dataset["id"]})
    task = job["tasks"][0]["id"]
    worker = attempt(task)
    claim = worker("POST", "claim", json={"worker": "worker-1", "claim_id": "c1"})
    assert claim.status_code == 200
    assert claim.json["parameters"] == {"who": "Ada", "times": 1, "style": "plain"}
    assert claim.json["inputs"] == [
        {"slot": "table", "name": "t.csv", "sha256": dataset["sha256"], "size": 4}
    ]
    assert claim.json["protocol"]["command"] == ["python3", "main.py"]
    assert claim.json["protocol"]["outputs"]["counts"]["path"] == "counts.csv"
    assert claim.json["limits"]["wall_seconds"] == 60  # what the protocol asks for
    assert claim.json["limits"]["memory_bytes"] == 128 * 1024 * 1024  # as far as it is granted
    assert claim.json["limits"]["cpu_seconds"] == 4 * 3600
    assert worker("POST", "claim", json={"worker": "worker-1", "claim_id": "c1"}).json == claim.json

    files = worker("GET", "protocol")
    with tarfile.open(fileobj=io.BytesIO(files.data)) as tar:
        assert sorted(tar.getnames()) == ["main.py", "protocol.yml"]
    assert worker("GET", "inputs/table").headers["X-Accel-Redirect"].startswith("/_store/blobs/")
    assert worker("GET", "inputs/other").status_code == 404

    beat = worker("POST", "heartbeat", json={"progress": 0.5, "progress_text": "half"})
    assert beat.json == {"lease_seconds": 30.0, "cancel": False}
    assert worker("PUT", "log?offset=0", data=b"hello\n").json == {"size": 6}
    assert worker("PUT", "log?offset=3", data=b"lo\nworld\n").json == {"size": 12}
    gap = worker("PUT", "log?offset=13", data=b"x")
    assert (gap.status_code, gap.json["code"], gap.json["expected_offset"]) == (409, "log_gap", 12)
    log = api("GET", f"tasks/{task}/log?offset=6")
    assert (log.data, log.headers["X-Log-Size"], log.headers["X-Log-Attempt"]) == (b"world\n", "12", "1")
    assert log.content_type == "text/plain; charset=utf-8"

    stored = put(worker, "greeting.txt", b"hello Ada\n").json
    assert put(worker, "greeting.txt", b"hello Ada\n").json == stored
    assert put(worker, "tables/counts.csv", b"a\n1\n", "kind=table&output=counts").status_code == 200
    told = {
        "usage": {"wall_seconds": 2.5, "cpu_seconds": 1, "memory_bytes": 2**20},
        "environment": {"r": "4.2"},
    }
    finished = worker("POST", "finish", json={"outcome": "success", "exit_code": 0, **told})
    assert finished.json == {"state": "success", "attempt": 1}
    with parts.sessions() as session:
        row = session.get_one(Attempt, (uuid.UUID(task), 1))
        assert (row.exit_code, row.usage, row.environment) == (0, told["usage"], told["environment"])
    assert worker("POST", "finish", json={"outcome": "success", "exit_code": 0}).json == finished.json

    shown = api("GET", f"jobs/{job['id']}").json
    assert (shown["state"], shown["tasks"][0]["progress"]) == ("success", 1.0)
    artifacts = api("GET", f"tasks/{task}/artifacts").json["items"]
    assert [item["name"] for item in artifacts] == ["greeting.txt", "tables/counts.csv"]
    assert api("GET", f"artifacts/{stored['id']}").json == stored
    assert list(parts.store.tmp.iterdir()) == []


def test_only_the_attempts_own_token_is_heard(api: Any, attempt: Callable[..., Any]) -> None:
    first, second = (api.submit()["tasks"][0]["id"] for _ in range(2))
    body = {"worker": "w", "claim_id": "c"}
    other = attempt(first)
    other.base = other.base.replace(first, second)
    assert other("POST", "claim", json=body).status_code == 401
    later = attempt(first)
    later.base = later.base.replace(f"{first}/1", f"{first}/2")
    assert later("POST", "claim", json=body).status_code == 401
    user = attempt(first)
    user.token = api.token
    assert user("POST", "claim", json=body).status_code == 401
    assert attempt(first, key="a stranger's key")("POST", "claim", json=body).status_code == 401
    assert attempt(first, key="an older one")("POST", "claim", json=body).status_code == 200


def test_a_claimed_attempt_is_not_claimed_by_another(running: Any) -> None:
    _, worker = running()
    answer = worker("POST", "claim", json={"worker": "w", "claim_id": "c2"})
    assert (answer.status_code, answer.json["code"]) == (409, "already_claimed")


def test_a_superseded_attempt_is_refused_everything(
    running: Any, attempt: Callable[..., Any], parts: Services
) -> None:
    job, worker = running()
    ended = worker("POST", "finish", json={"outcome": "failed", "failure": "system", "message": "lost"})
    assert ended.json == {"state": "queued", "attempt": 2}
    for answer in (
        worker("POST", "heartbeat", json={}),
        worker("PUT", "log?offset=0", data=b"late"),
        put(worker, "greeting.txt", b"late"),
        worker("POST", "finish", json={"outcome": "success"}),
        worker("GET", "protocol"),
        worker("POST", "claim", json={"worker": "w", "claim_id": "c1"}),
    ):
        assert (answer.status_code, answer.json["code"]) == (409, "attempt_superseded")
    assert [path for path in parts.store.blobs.rglob("*") if path.is_file()] == []
    second = attempt(job["tasks"][0]["id"], 2)
    assert second("POST", "claim", json={"worker": "w", "claim_id": "c9"}).status_code == 200


def test_cancelling_reaches_the_worker(api: Any, running: Any) -> None:
    job, worker = running()
    assert api("POST", f"jobs/{job['id']}/cancel").json["state"] == "running"
    assert worker("POST", "heartbeat", json={}).json["cancel"] is True
    assert worker("POST", "finish", json={"outcome": "stopped"}).json["state"] == "cancelled"
    answer = worker("POST", "claim", json={"worker": "w", "claim_id": "c1"})
    assert (answer.status_code, answer.json["code"]) == (409, "task_cancelled")


@pytest.mark.parametrize(
    ("name", "content", "headers", "status", "code"),
    [
        ("x", b"x", {"X-Content-SHA256": "0" * 64}, 400, "checksum_mismatch"),
        ("x", b"x", {"X-Content-SHA256": "short"}, 422, "invalid"),
        ("x", b"x" * 50_001, {}, 413, "too_large"),
        ("..%2Fx", b"x", {}, 422, "bad_name"),
        ("a//b", b"x", {}, 422, "bad_name"),
        ("a%01b", b"x", {}, 422, "bad_name"),
    ],
)
def test_refused_artifacts_leave_nothing(
    running: Any, parts: Services, name: str, content: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    _, worker = running()
    answer = put(worker, name, content, **headers)
    assert (answer.status_code, answer.json["code"]) == (status, code)
    assert [path for path in parts.store.root.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("finish", {"outcome": "failed"}),
        ("finish", {"outcome": "success", "failure": "user"}),
        ("finish", {"outcome": "won"}),
        ("finish", {"outcome": "success", "usage": {"wall_seconds": -1}}),
        ("finish", {"outcome": "success", "environment": {"os": "x" * 20_001}}),
        ("finish", {"outcome": "success", "exit_code": 2**40}),
        ("heartbeat", {"progress": 1.5}),
        ("heartbeat", {"progress": "half"}),
        ("claim", {"worker": "w"}),
    ],
)
def test_wrong_words_change_nothing(api: Any, running: Any, path: str, body: Any) -> None:
    job, worker = running()
    assert worker("POST", path, json=body).status_code == 422
    assert api("GET", f"jobs/{job['id']}").json["state"] == "running"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("heartbeat", {"speed": 1}),
        ("finish", {"outcome": "success", "exit_code": 0, "usage": {"wall_seconds": 1, "fuel": 1}}),
    ],
)
def test_what_only_a_newer_worker_knows_is_left_out(running: Any, path: str, body: Any) -> None:
    _, worker = running()
    assert worker("POST", path, json=body).status_code == 200


def test_a_log_has_a_limit(running: Any, api: Any) -> None:
    job, worker = running()
    assert worker("PUT", "log?offset=0", data=b"x" * 10_000).status_code == 200
    assert worker("PUT", "log?offset=10000", data=b"x").status_code == 413
    log = api("GET", f"tasks/{job['tasks'][0]['id']}/log")
    assert log.headers["X-Log-Size"] == "10000"
    assert worker("PUT", "log?offset=9999", data=b"x").status_code == 200


@pytest.mark.parametrize("number", ["0", "-1", "01", "99999999999999999999", "x"])
def test_odd_attempt_numbers_are_not_found(api: Any, number: str) -> None:
    task = api.submit()["tasks"][0]["id"]
    assert api("POST", f"attempts/{task}/{number}/claim", json={}).status_code == 404
