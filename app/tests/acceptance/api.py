"""A thin client of the deployed API: what the tests say, without the CLI in between."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import httpx

from .waiting import wait_for

FINAL = {"success", "failed", "partial", "inapplicable", "cancelled"}
Json = dict[str, Any]


def connect(url: str, ca_file: Path, token: str | None = None) -> httpx.Client:
    """An HTTPS client that trusts the lab's own authority and nothing else."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    context = ssl.create_default_context(cafile=str(ca_file))
    return httpx.Client(base_url=url, verify=context, headers=headers, timeout=60)


class Api:
    """One user's view of the lab."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http

    @classmethod
    def login(cls, url: str, ca_file: Path, user: str, password: str) -> Api:
        """Sign in with a password; the token is kept in the client."""
        with connect(url, ca_file) as http:
            answer = http.post(
                "/api/v1/login", json={"user": user, "password": password, "name": "acceptance"}
            )
        assert answer.status_code in {200, 201}, answer.text
        return cls(connect(url, ca_file, answer.json()["token"]))

    @property
    def token(self) -> str:
        """The bearer token in use."""
        return self.http.headers["Authorization"].removeprefix("Bearer ")

    def get(self, path: str) -> Json:
        """A JSON resource that must be there."""
        answer = self.http.get(f"/api/v1/{path}")
        assert answer.status_code == 200, f"GET {path} → {answer.status_code} {answer.text}"
        return cast("Json", answer.json())

    def submit(self, protocol: str, parameters: Json | None = None, **more: Any) -> Json:
        """Submit a job that must be accepted."""
        body = {"protocol": protocol, "parameters": parameters or {}, **more}
        answer = self.http.post("/api/v1/jobs", json=body)
        assert answer.status_code == 201, f"{answer.status_code} {answer.text}"
        return cast("Json", answer.json())

    def task(self, job: Json) -> Json:
        """The one task of a job, as it stands now."""
        return cast("Json", self.get(f"jobs/{job['id']}")["tasks"][0])

    def wait(self, job: Json, *states: str, seconds: float = 60) -> Json:
        """The job's task once it is in one of `states` (default: any final one)."""
        wanted = set(states) or FINAL

        def probe() -> Json | None:
            task = self.task(job)
            return task if task["state"] in wanted else None

        return wait_for(probe, seconds, f"job {job['id']} to be {sorted(wanted)}", lambda: self.task(job))

    def cancel(self, job: Json) -> httpx.Response:
        """Ask for a job's cancellation."""
        return self.http.post(f"/api/v1/jobs/{job['id']}/cancel")

    def events(self, task: Json) -> list[Json]:
        """A task's history, oldest first."""
        return cast("list[Json]", self.get(f"tasks/{task['id']}/events")["items"])

    def artifacts(self, task: Json) -> dict[str, Json]:
        """A task's artifacts by name."""
        return {item["name"]: item for item in self.get(f"tasks/{task['id']}/artifacts")["items"]}

    def content(self, artifact: Json, **headers: str) -> httpx.Response:
        """An artifact's bytes."""
        return self.http.get(f"/api/v1/artifacts/{artifact['id']}/content", headers=headers)

    def log(self, task: Json) -> bytes:
        """A task's whole log."""
        answer = self.http.get(f"/api/v1/tasks/{task['id']}/log")
        assert answer.status_code == 200, answer.text
        return answer.content

    def upload(self, name: str, content: bytes | Iterator[bytes], media_type: str = "text/csv") -> Json:
        """Upload a dataset that must be accepted."""
        answer = self.http.post(
            "/api/v1/datasets", params={"name": name}, content=content, headers={"Content-Type": media_type}
        )
        assert answer.status_code == 201, answer.text
        return cast("Json", answer.json())


def assert_problem(answer: httpx.Response, status: int, code: str | None = None) -> Json:
    """The answer is a problem document with this status, a code, and a hint that tells what to do."""
    assert answer.status_code == status, f"{answer.status_code} {answer.text}"
    assert answer.headers["content-type"].startswith("application/problem+json"), answer.headers
    body = cast("Json", answer.json())
    assert {"type", "title", "status", "detail", "code", "hint"} <= body.keys(), body
    assert body["status"] == status
    assert body["hint"], body
    if code:
        assert body["code"] == code, body
    return body
