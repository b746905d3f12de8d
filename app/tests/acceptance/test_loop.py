"""The loop under hands: cancel, restart, kill, old attempts, and who may see what."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from labfleet.jobs.tokens import sign_attempt

from .api import Api, Json, assert_problem, connect
from .lab import Lab, Machine, processes
from .waiting import wait_for

SHEPHERD = "labfleet.worker.attempt"
LATE = hashlib.sha256(b"late").hexdigest()


def running(user: Api, seconds: int, action: str = "wait", marker: str = "") -> tuple[Json, Json]:
    """A job whose program is at work (it has told its progress), and its task."""
    job = user.submit("acceptance-behave", {"action": action, "number": seconds, "marker": marker})
    user.wait(job, "running", seconds=30)
    wait_for(lambda: user.task(job)["progress_text"], 60, "the first progress")
    return job, user.task(job)


class TestCancel:
    @pytest.mark.usefixtures("worker_stopped")
    def test_queued_within_a_second(self, user: Api) -> None:
        job = user.submit("acceptance-noop")
        begin = time.monotonic()
        assert user.cancel(job).status_code == 200
        assert user.wait(job, "cancelled", seconds=1)["attempt"] == 1
        assert time.monotonic() - begin <= 1

    def test_running_within_five_seconds_with_all_its_processes(self, user: Api, worker: Machine) -> None:
        marker = f"acceptance-{uuid.uuid4()}"
        job, task = running(user, 100, "tree", marker)
        assert len(processes(worker, marker)) >= 3
        begin = time.monotonic()
        assert user.cancel(job).status_code == 200
        user.wait(job, "cancelled", seconds=5)
        assert time.monotonic() - begin <= 5
        wait_for(lambda: not processes(worker, marker), 5, "the processes to be gone")
        wait_for(lambda: not processes(worker, task["id"]), 5, "the shepherd to be gone")

    def test_final_stays_final(self, user: Api) -> None:
        job = user.submit("acceptance-noop")
        assert user.wait(job)["state"] == "success"
        answer = user.cancel(job)
        assert answer.status_code in {200, 409}
        assert user.task(job)["state"] == "success"


class TestRestarts:
    def test_worker_restart_disturbs_nothing(self, user: Api, worker: Machine) -> None:
        job, _ = running(user, 12)
        worker.run("systemctl restart labfleet-worker")
        task = user.wait(job, seconds=60)
        assert (task["state"], task["attempt"]) == ("success", 1), task

    def test_killed_worker_service_disturbs_nothing(self, user: Api, worker: Machine) -> None:
        job, _ = running(user, 12)
        worker.run("systemctl kill -s KILL labfleet-worker")
        task = user.wait(job, seconds=90)
        assert (task["state"], task["attempt"]) == ("success", 1), task
        wait_for(
            lambda: worker.run("systemctl is-active labfleet-worker || true").strip() == "active",
            30,
            "worker",
        )

    def test_killed_shepherd_is_retried(self, user: Api, worker: Machine, lab: Lab) -> None:
        job, task = running(user, 5)
        (shepherd,) = [
            line for line in processes(worker, SHEPHERD) if task["id"] in line and "systemd-run" not in line
        ]
        worker.run(f"kill -KILL {shepherd.split()[0]}")
        wait_for(lambda: user.task(job)["attempt"] == 2, 90, "a second attempt")
        self.old_attempt_is_refused(lab, task)
        end = user.wait(job, seconds=120)
        assert (end["state"], end["attempt"]) == ("success", 2), end
        assert any(event["attempt"] == 1 and event["from_state"] == "running" for event in user.events(task))

    def old_attempt_is_refused(self, lab: Lab, task: Json) -> None:
        finish = {"outcome": "success", "failure": None, "exit_code": 0, "message": "late"}
        with attempt(lab, task["id"], 1) as old:
            assert_problem(old.post("heartbeat", json={}), 409, "attempt_superseded")
            assert_problem(old.post("finish", json=finish), 409, "attempt_superseded")
            late = old.put("artifacts/result.txt", content=b"late", headers={"X-Content-SHA256": LATE})
            assert_problem(late, 409, "attempt_superseded")


@contextmanager
def attempt(lab: Lab, task: str, number: int, signed: int | None = None) -> Iterator[httpx.Client]:
    """A worker's client for one attempt; `signed` is the number its token is good for."""
    keys = lab.secret("signing_key").split()
    token = sign_attempt(uuid.UUID(task), signed or number, keys)
    with connect(lab.url, lab.ca_file, token) as http:
        http.base_url = httpx.URL(f"{lab.url}/api/v1/attempts/{task}/{number}/")
        yield http


class TestFencing:
    def test_token_of_another_attempt(self, lab: Lab, user: Api) -> None:
        task = user.wait(user.submit("acceptance-noop"))
        for number, signed in ((1, 2), (2, 1)):
            with attempt(lab, task["id"], number, signed) as worker:
                assert_problem(worker.post("heartbeat", json={}), 401)

    def test_finished_attempt_takes_nothing_more(self, lab: Lab, user: Api) -> None:
        task = user.wait(user.submit("acceptance-noop"))
        with attempt(lab, task["id"], 1) as worker:
            assert_problem(worker.post("heartbeat", json={}), 409)
            claim = {"worker": "w", "claim_id": str(uuid.uuid4())}
            assert_problem(worker.post("claim", json=claim), 409)
        assert user.get(f"tasks/{task['id']}")["state"] == "success"

    def test_attempt_that_was_never_opened(self, lab: Lab, user: Api) -> None:
        task = user.wait(user.submit("acceptance-noop"))
        with attempt(lab, task["id"], 7) as worker:
            assert_problem(worker.post("heartbeat", json={}), 409)

    def test_user_token_is_no_attempt_token(self, user: Api) -> None:
        task = user.wait(user.submit("acceptance-noop"))
        assert_problem(user.http.post(f"/api/v1/attempts/{task['id']}/1/heartbeat", json={}), 401)


class TestWhoMaySee:
    PATHS = ("jobs", "datasets", "workers", "protocols", "me")

    @pytest.mark.parametrize("path", PATHS)
    def test_nobody_sees_nothing(self, nobody: Api, path: str) -> None:
        assert_problem(nobody.http.get(f"/api/v1/{path}"), 401)

    @pytest.mark.parametrize("token", ["lf_wrong", ".", "la_x.1.y", "lf_" + "a" * 5000])
    def test_wrong_tokens(self, nobody: Api, token: str) -> None:
        answer = nobody.http.get("/api/v1/jobs", headers={"Authorization": f"Bearer {token}"})
        assert 400 <= answer.status_code < 500

    def test_others_see_nothing_of_it(self, user: Api, other: Api, admin: Api) -> None:
        job = user.submit("acceptance-behave", {"action": "write"})
        task = user.wait(job)
        artifact = user.artifacts(task)["result.txt"]["id"]
        dataset = user.upload("mine.csv", b"a,b\n1,2\n")["id"]
        paths = [
            f"jobs/{job['id']}",
            f"tasks/{task['id']}",
            f"tasks/{task['id']}/log",
            f"tasks/{task['id']}/events",
        ]
        paths += [f"artifacts/{artifact}/content", f"datasets/{dataset}", f"datasets/{dataset}/content"]
        for path in paths:
            assert_problem(other.http.get(f"/api/v1/{path}"), 404)
            assert admin.http.get(f"/api/v1/{path}").status_code == 200
        assert_problem(other.cancel(job), 404)
        assert job["id"] not in [item["id"] for item in other.get("jobs?limit=100")["items"]]

    def test_idempotency(self, user: Api) -> None:
        key = {"Idempotency-Key": str(uuid.uuid4())}
        body = {"protocol": "acceptance-noop"}
        first, second = (user.http.post("/api/v1/jobs", json=body, headers=key) for _ in range(2))
        assert first.json()["id"] == second.json()["id"]
