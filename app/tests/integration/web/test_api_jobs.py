"""Jobs and datasets by the API."""

from __future__ import annotations

import io
import tarfile
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from apiflask import APIFlask

from labfleet.web.services import Services

WORKER_TOKEN = "lw_of-worker-one"
TASK = {
    *("id", "job", "protocol", "version", "commit", "key", "state", "failure", "message", "attempt"),
    *("max_attempts", "progress", "progress_text", "worker", "exit_code", "created_at", "started_at"),
    *("finished_at", "parameters", "inputs", "name", "ready", "held", "optional", "skipped"),
    *("reused_from", "reason"),
}
REPORT = {
    "keys": ["python"],
    "slots": 2,
    "free_slots": 1,
    "cores": 2,
    "load1": 0.5,
    "memory_free": 2**33,
    "disk_free": 2**40,
    "version": "0.1.0",
}


SUMMARY = {
    *("id", "state", "label", "labels", "note", "owner", "priority", "held", "webhook", "protocols"),
    *("progress", "counts", "created_at", "finished_at"),
}


def test_submit_and_show(api: Any) -> None:
    answer = api("POST", "jobs", json={"protocol": "greet", "parameters": {"times": 2}, "label": "first"})
    job = answer.json
    assert answer.status_code == 201 and answer.headers["Location"] == f"/api/v1/jobs/{job['id']}"
    assert set(job) == SUMMARY | {"nodes", "tasks"}
    (task,) = job["tasks"]
    assert set(task) == TASK
    assert task["parameters"] == {"who": "world", "times": 2, "style": "plain"}
    assert (task["protocol"], task["version"], task["state"], task["attempt"]) == (
        "greet",
        "1.0.0",
        "queued",
        1,
    )
    assert api("GET", f"jobs/{job['id']}").json == job
    assert api("GET", f"tasks/{task['id']}").json == task
    assert [event["event"] for event in api("GET", f"tasks/{task['id']}/events").json["items"]] == [
        "submitted"
    ]


def test_pages_of_jobs(api: Any) -> None:
    ids = [api.submit(label=str(number))["id"] for number in range(5)][::-1]
    first = api("GET", "jobs?limit=2").json
    second = api("GET", f"jobs?limit=2&after={first['next']}").json
    third = api("GET", f"jobs?limit=2&after={second['next']}").json
    assert [job["id"] for page in (first, second, third) for job in page["items"]] == ids
    assert third["next"] is None
    api("POST", f"jobs/{ids[0]}/cancel")
    assert [job["id"] for job in api("GET", "jobs?state=cancelled").json["items"]] == ids[:1]
    assert len(api("GET", "jobs?state=queued").json["items"]) == 4


def test_a_page_is_never_larger_than_the_setting(api: Any, parts: Services, app: APIFlask) -> None:
    assert parts.settings.web.page_size_max == 200
    assert api("GET", "jobs?limit=2000000").status_code == 200


def test_the_same_key_at_once_makes_one_job(api: Any, app: APIFlask) -> None:
    headers = {"Idempotency-Key": "once", "Authorization": f"Bearer {api.token}"}

    def submit(_: int) -> Any:
        return app.test_client().post("/api/v1/jobs", json={"protocol": "greet"}, headers=headers)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(submit, range(24)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json["id"] for answer in answers}) == 1
    other = app.test_client().post("/api/v1/jobs", json={"protocol": "greet", "label": "x"}, headers=headers)
    assert (other.status_code, other.json["code"]) == (409, "idempotency_mismatch")


def test_cancel_is_final(api: Any) -> None:
    job = api.submit()
    assert api("POST", f"jobs/{job['id']}/cancel").json["state"] == "cancelled"
    assert api("POST", f"jobs/{job['id']}/cancel").status_code == 200


def test_protocols(api: Any) -> None:
    (protocol,) = api("GET", "protocols").json["items"]
    assert (protocol["name"], [version["version"] for version in protocol["versions"]]) == (
        "greet",
        ["1.0.0"],
    )
    assert api("GET", "protocols/greet").json == protocol
    interface = api("GET", "protocols/greet/interface").json
    assert interface["commit"] == protocol["versions"][0]["commit"]
    assert interface["parameters"]["properties"]["times"]["maximum"] == 9
    assert api("GET", f"protocols/greet/interface?version={interface['commit']}").json == interface


def test_check_a_protocol(api: Any, tmp_path: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        tar.add(tmp_path / "greet", arcname=".")
    report = api("POST", "protocols/check", data=packed.getvalue()).json
    assert (report["ok"], report["problems"], report["interface"]["name"]) == (True, [], "greet")


def test_datasets(api: Any, parts: Services) -> None:
    content = b"a,b\n1,2\n"
    answer = api("POST", "datasets?name=T%C3%A4ble.csv", data=content)
    dataset = answer.json
    assert answer.status_code == 201
    assert (dataset["name"], dataset["media_type"], dataset["size"]) == ("Täble.csv", "text/csv", 8)
    assert parts.store.existing(dataset["sha256"]).read_bytes() == content
    assert api("GET", f"datasets/{dataset['id']}").json == dataset
    assert api("GET", "datasets").json == {"items": [dataset], "next": None}
    again = api.upload("again.csv", content)
    assert again["sha256"] == dataset["sha256"] and again["id"] != dataset["id"]
    first = api("GET", "datasets?limit=1").json
    assert api("GET", f"datasets?after={first['next']}").json["items"] == [dataset]


def test_downloads_are_left_to_nginx_and_never_shown_as_a_page(api: Any) -> None:
    dataset = api.upload("evil%22%3B.svg", b"<svg><script>alert(1)</script></svg>")
    answer = api("GET", f"datasets/{dataset['id']}/content")
    sha = dataset["sha256"]
    assert answer.headers["X-Accel-Redirect"] == f"/_store/blobs/{sha[:2]}/{sha[2:]}"
    assert answer.data == b""
    assert answer.headers["Content-Disposition"] == (
        "attachment; filename=\"evil_;.svg\"; filename*=UTF-8''evil%22%3B.svg"
    )
    assert answer.headers["Content-Security-Policy"].endswith("sandbox")
    assert "immutable" in answer.headers["Cache-Control"]


@pytest.mark.parametrize(
    ("options", "status", "code"),
    [
        ({"data": b"x" * 100_001}, 413, "too_large"),
        (
            {"input_stream": io.BytesIO(b"half"), "environ_overrides": {"CONTENT_LENGTH": "9"}},
            400,
            "upload_cut_off",
        ),
    ],
)
def test_refused_uploads_leave_nothing(
    api: Any, parts: Services, options: Any, status: int, code: str
) -> None:
    answer = api("POST", "datasets?name=x.bin", **options)
    assert (answer.status_code, answer.json["code"]) == (status, code)
    assert [path for path in parts.store.root.rglob("*") if path.is_file()] == []
    assert api("GET", "datasets").json["items"] == []


def test_workers_report_with_their_own_token(api: Any, app: APIFlask) -> None:
    client, headers = app.test_client(), {"Authorization": f"Bearer {WORKER_TOKEN}"}
    assert client.put("/api/v1/workers/worker-1", json=REPORT, headers=headers).status_code == 200
    assert client.put("/api/v1/workers/worker-2", json=REPORT, headers=headers).status_code == 401
    wrong = {**REPORT, "free_slots": 3}
    assert client.put("/api/v1/workers/worker-1", json=wrong, headers=headers).status_code == 422
    (worker,) = api("GET", "workers").json["items"]
    assert {name: worker[name] for name in REPORT} == REPORT
    assert api("GET", f"jobs/{uuid.uuid4()}", headers=headers).status_code == 401
