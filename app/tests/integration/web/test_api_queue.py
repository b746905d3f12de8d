"""Order, quotas, reservations and the fleet, as the API offers them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from io import BytesIO
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import func, update
from sqlalchemy.orm import Session, sessionmaker

from labfleet.db.models import User, WorkerRow
from labfleet.web.services import Services

Sessions = sessionmaker[Session]
ADMIN_ONLY = [
    ("PATCH", "users/ada/quota", {}),
    ("GET", "users/root/quota", None),
    ("GET", "groups", None),
    ("GET", "groups/lab", None),
    ("PUT", "groups/lab", {}),
    ("DELETE", "groups/lab", None),
    ("GET", "reservations", None),
    ("GET", "reservations/r", None),
    ("PUT", "reservations/r", {"slots": 1}),
    ("DELETE", "reservations/r", None),
    ("POST", "workers/w1/drain", None),
    ("POST", "workers/w1/resume", None),
    ("DELETE", "workers/w1", None),
]


@pytest.fixture
def root(caller: Callable[[User], Any], admin: User) -> Any:
    """The API as an admin calls it."""
    return caller(admin)


@pytest.mark.parametrize(("method", "path", "body"), ADMIN_ONLY, ids=str)
def test_only_an_admin_may(api: Any, admin: User, method: str, path: str, body: Any) -> None:
    answer = api(method, path, **({} if body is None else {"json": body}))
    assert (answer.status_code, answer.json["code"]) == (403, "forbidden")


def test_a_job_s_reason_is_told_and_its_tasks_say_the_same(
    api: Any, root: Any, caller: Any, make_user: Any, make_worker: Any
) -> None:
    job = api.submit()
    path = f"jobs/{job['id']}/queue"
    [item] = api("GET", path).json["items"]
    assert (item["count"], item["reason"]["code"]) == (1, "no_such_worker")
    assert item["needs"] == {
        "key": "python",
        "cores": 1,
        "memory_bytes": 256 * 2**20,
        "wall_seconds": 60,
        "tags": [],
    }
    assert job["tasks"][0]["reason"]["code"] == "no_such_worker"
    make_worker("w1")
    assert root("GET", path).json["items"][0]["reason"]["code"] == "next"
    assert caller(make_user("eve"))("GET", path).status_code == 404


def test_the_order_is_shown(api: Any, root: Any, caller: Any, make_user: Any) -> None:
    eve = caller(make_user("eve"))
    first, second, other = api.submit(), api.submit(), eve.submit()
    every = root("GET", "queue").json["items"]
    assert [(item["place"], item["job"], item["owner"]) for item in every] == [
        (1, first["id"], "ada"),
        (2, other["id"], "eve"),
        (3, second["id"], "ada"),
    ]
    own = api("GET", "queue?limit=1").json["items"]
    assert [(item["place"], item["task"]) for item in own] == [(1, first["tasks"][0]["id"])]
    assert api("GET", "queue?limit=0").status_code == 422


def test_a_quota_is_shown_and_changed(api: Any, root: Any) -> None:
    assert root("PUT", "groups/lab", json={"max_running": 9}).status_code == 200
    changed = root("PATCH", "users/ada/quota", json={"group": "lab", "max_cores": 4, "weight": 2})
    assert changed.json == {
        "user": "ada",
        "group": "lab",
        "weight": 2,
        "max_priority": 0,
        "max_running": None,
        "max_cores": 4,
        "max_stored_bytes": None,
        "running": 0,
        "cores": 0,
        "stored_bytes": 0,
    }
    assert api("GET", "users/ada/quota").json == changed.json
    assert root("GET", "groups").json["items"] == [
        {"name": "lab", "max_running": 9, "max_cores": None, "max_stored_bytes": None, "users": ["ada"]}
    ]
    lifted = root("PATCH", "users/ada/quota", json={"group": None, "max_cores": None}).json
    assert (lifted["group"], lifted["max_cores"], lifted["weight"]) == (None, None, 2)
    assert root("PUT", "groups/lab", json={}).json["max_running"] is None
    assert root("DELETE", "groups/lab").status_code == 204
    assert root("GET", "groups/lab").status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "body", "told"),
    [
        ("PATCH", "users/ada/quota", {"max_running": 0}, "a quota is at least 1; to stop a user disable it"),
        ("PATCH", "users/ada/quota", {"max_cores": -5}, "a quota is at least 1; to stop a user disable it"),
        ("PUT", "groups/lab", {"max_stored_bytes": 0}, "a quota is at least 1; to stop a user disable it"),
        ("PATCH", "users/ada/quota", {"weight": 0}, "weight: it is above 0"),
        ("PATCH", "users/ada/quota", {"weight": None}, "weight"),
        ("PATCH", "users/ada/quota", {"max_running": 1.5}, "max_running"),
        ("PATCH", "users/ada/quota", {"surprise": 1}, "surprise"),
        ("PUT", "reservations/r", {"slots": 0}, "1 slot at least"),
        ("PUT", "reservations/r", {}, "slots"),
        ("PUT", "reservations/R R", {"slots": 1}, "no key"),
        ("PUT", "groups/-", {}, "no name of a group"),
    ],
)
def test_what_makes_no_sense_is_refused(
    api: Any, root: Any, method: str, path: str, body: Any, told: str
) -> None:
    answer = root(method, path, json=body)
    assert answer.status_code == 422, answer.text
    assert told in answer.json["detail"]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PATCH", "users/nobody/quota", {"weight": 1}),
        ("PATCH", "users/ada/quota", {"group": "nowhere"}),
        ("GET", "users/nobody/quota", None),
        ("DELETE", "groups/nowhere", None),
        ("GET", "reservations/r", None),
        ("DELETE", "reservations/r", None),
        ("POST", "workers/nobody/drain", None),
        ("DELETE", "workers/nobody", None),
    ],
)
def test_what_is_not_there_is_not_found(api: Any, root: Any, method: str, path: str, body: Any) -> None:
    answer = root(method, path, **({} if body is None else {"json": body}))
    assert (answer.status_code, answer.json["code"]) == (404, "not_found")


def test_slots_are_reserved(root: Any) -> None:
    assert root("PUT", "reservations/r", json={"slots": 2}).json == {"key": "r", "slots": 2}
    assert root("GET", "reservations").json["items"] == [{"key": "r", "slots": 2}]
    assert root("DELETE", "reservations/r").status_code == 204
    assert root("GET", "reservations").json["items"] == []


def test_a_worker_is_drained_and_told_of_it(api: Any, root: Any, make_worker: Any, app: Any) -> None:
    make_worker("worker-1")
    job = api.submit()
    assert root("POST", "workers/worker-1/drain").json["draining"] is True
    assert api("GET", "workers").json["items"][0]["draining"] is True
    assert api("GET", f"jobs/{job['id']}/queue").json["items"][0]["reason"]["code"] == "draining"
    assert root("POST", "workers/worker-1/resume").json["draining"] is False
    assert api("GET", f"jobs/{job['id']}/queue").json["items"][0]["reason"]["code"] == "next"


def test_a_worker_that_is_gone_is_forgotten(root: Any, make_worker: Any, sessions: Sessions) -> None:
    make_worker("w1")
    refused = root("DELETE", "workers/w1")
    assert (refused.status_code, refused.json["code"]) == (409, "conflict")
    with sessions.begin() as session:
        session.execute(update(WorkerRow).values(last_seen=func.clock_timestamp() - timedelta(minutes=1)))
    assert root("DELETE", "workers/w1").status_code == 204
    assert root("GET", "workers").json["items"] == []


class Together(BytesIO):
    """A body whose end comes when the other's does too: by then both have been let in."""

    def __init__(self, content: bytes, both: Barrier) -> None:
        super().__init__(content)
        self._both = both

    def read(self, size: int | None = -1, /) -> bytes:
        chunk = super().read(size)
        if chunk:
            self._both.wait()
        return chunk


@pytest.mark.parametrize("path", ["users/ada/quota", "groups/lab"])
def test_two_uploads_at_once_do_not_both_take_the_last_room(
    api: Any, root: Any, parts: Services, app: Any, path: str
) -> None:
    assert root("PUT", "groups/lab", json={}).status_code == 200
    assert root("PATCH", "users/ada/quota", json={"group": "lab"}).status_code == 200
    assert root("PUT" if "lab" in path else "PATCH", path, json={"max_stored_bytes": 10}).status_code == 200
    headers, both = {"Authorization": f"Bearer {api.token}"}, Barrier(2, timeout=20)

    def upload(content: bytes) -> int:
        sent = {
            "input_stream": Together(content, both),
            "environ_overrides": {"CONTENT_LENGTH": str(len(content))},
        }
        answer = app.test_client().post("/api/v1/datasets?name=a.csv", headers=headers, **sent)
        return int(answer.status_code)

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(upload, [b"123456", b"abcdef"])) == [201, 409]
    assert len([found for found in parts.store.root.rglob("*") if found.is_file()]) == 1
    assert root("GET", "users/ada/quota").json["stored_bytes"] == 6


def test_an_upload_beyond_the_quota_is_refused_and_leaves_nothing(
    api: Any, root: Any, parts: Services
) -> None:
    assert root("PATCH", "users/ada/quota", json={"max_stored_bytes": 10}).status_code == 200
    api.upload("a.csv", b"12345")
    in_chunks = {
        "input_stream": BytesIO(b"123456"),
        "headers": {"Transfer-Encoding": "chunked"},
        "environ_overrides": {"wsgi.input_terminated": True, "CONTENT_LENGTH": ""},
    }
    for sent in ({"data": b"123456"}, in_chunks):
        answer = api("POST", "datasets?name=b.csv", **sent)
        assert (answer.status_code, answer.json["code"]) == (409, "quota_exceeded"), answer.text
        assert "You have 5 of 10 bytes" in answer.json["detail"]
    assert len([path for path in parts.store.blobs.rglob("*") if path.is_file()]) == 1
    api.upload("b.csv", b"67890")
    assert root("GET", "users/ada/quota").json["stored_bytes"] == 10
    assert api("POST", "jobs", json={"protocol": "greet"}).status_code == 201
