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

from labfleet.datasets import previews
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
    *("id", "state", "label", "labels", "note", "owner", "priority", "held", "webhook", "mail", "protocols"),
    *("progress", "counts", "created_at", "finished_at", "visibility", "shared_with", "may_change"),
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


def test_a_dataset_tells_of_itself(api: Any) -> None:
    told = "description=Counts&licence=CC0-1.0&labels=plate+4,pilot&terms=obo:1"
    first = api("POST", f"datasets?name=a.csv&{told}", data=b"a,b\n1,2\n").json
    assert (first["description"], first["labels"], first["terms"]) == (
        "Counts",
        ["plate 4", "pilot"],
        ["obo:1"],
    )
    assert (first["version"], first["previous"], first["owner"]) == (1, None, "ada")
    second = api("POST", f"datasets?name=a.csv&previous={first['id']}&labels=new", data=b"a,b\n3,4\n").json
    assert (second["version"], second["previous"], second["series"]) == (2, first["id"], first["series"])
    assert (second["labels"], second["licence"]) == (["new"], "CC0-1.0")
    versions = api("GET", f"datasets/{first['id']}/versions").json
    assert versions == {"items": [second, first], "next": None}
    changed = api("PATCH", f"datasets/{first['id']}", json={"labels": [], "description": "Old"}).json
    assert changed == {**first, "labels": [], "description": "Old"}
    for body in ({"name": "x"}, {"labels": ["a,b"]}, {"description": "x" * 10_001}):
        assert api("PATCH", f"datasets/{first['id']}", json=body).status_code == 422
    unknown = api("POST", f"datasets?name=a.csv&previous={uuid.uuid4()}", data=b"x")
    assert (unknown.status_code, unknown.json["code"]) == (404, "unknown_dataset")


def test_a_preview_by_the_api(api: Any, parts: Services) -> None:
    table, other = api.upload("a.csv", b"a,b\n1,2\n"), api.upload("a.bin", b"x")
    assert (table["preview"], other["preview"]) == ("queued", None)
    path = f"datasets/{table['id']}/preview"
    assert api("GET", path).json["state"] == "queued"
    with parts.sessions.begin() as db:
        taken = previews.take(db, 60, 3)
        assert taken is not None
        previews.settle(db, taken, {"rows": 1}, "")
    assert api("GET", path).json["result"] == {"rows": 1}
    assert api("GET", f"datasets/{table['id']}").json["preview"] == "done"
    again = api("POST", path)
    assert (again.status_code, again.json["state"], again.json["result"]) == (202, "queued", None)
    assert api("GET", f"datasets/{other['id']}/preview").json["state"] is None
    assert api("POST", f"datasets/{other['id']}/preview").json["code"] == "no_table"


def test_others_know_nothing_of_a_dataset(api: Any, caller: Any, make_user: Any) -> None:
    path = f"datasets/{api.upload('a.csv', b'a')['id']}"
    eve = caller(make_user("eve"))
    calls = [("GET", ""), ("GET", "/versions"), ("GET", "/preview"), ("POST", "/preview"), ("PATCH", "")]
    for method, rest in calls:
        body = {"json": {}} if method == "PATCH" else {}
        answer = eve(method, path + rest, **body)
        assert (answer.status_code, answer.json["code"]) == (404, "unknown_dataset"), (method, rest)


def test_a_dataset_is_shared_searched_and_deleted(api: Any, caller: Any, make_user: Any) -> None:
    dataset = api("POST", "datasets?name=plate_4.csv&labels=pilot", data=b"a").json
    path, eve = f"datasets/{dataset['id']}", caller(make_user("eve"))
    assert (dataset["visibility"], dataset["may_change"]) == ("private", True)
    shared = api("POST", f"{path}/share", json={"users": ["eve"]}).json
    assert (shared["visibility"], shared["shared_with"]) == ("shared", {"users": ["eve"], "groups": []})
    hers = eve("GET", path).json
    assert (hers["may_change"], hers["shared_with"], hers["owner"]) == (False, None, "ada")
    assert eve("GET", f"{path}/content").status_code == 200
    for method, rest in (("DELETE", ""), ("POST", "/publish"), ("POST", "/preview")):
        assert eve(method, path + rest).status_code == 403, rest
    assert api("POST", f"{path}/unshare", json={"users": ["eve"]}).json["visibility"] == "private"
    assert api("POST", f"{path}/publish").json["visibility"] == "public"
    assert [item["name"] for item in eve("GET", "datasets?text=plate&labels=pilot").json["items"]] == [
        "plate_4.csv"
    ]
    assert eve("GET", "datasets?mine=true").json["items"] == []
    assert eve("GET", "datasets/facets").json["labels"] == [{"value": "pilot", "count": 1}]
    assert api("POST", f"{path}/withdraw").json["visibility"] == "private"
    job = api.submit(inputs={"table": dataset["id"]})
    refused = api("DELETE", path)
    assert (refused.status_code, refused.json["code"], refused.json["jobs"]) == (
        409,
        "dataset_in_use",
        [job["id"]],
    )
    api("POST", f"jobs/{job['id']}/cancel")
    assert api("DELETE", f"jobs/{job['id']}").status_code == 204
    assert api("DELETE", path).status_code == 204
    assert api("GET", path).status_code == 404
