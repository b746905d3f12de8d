"""The CGI runner's door, as any front end with a password finds it; refused requests leave no trace."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest

from .api import Api, assert_problem
from .archives import GOOD, archive, climbing
from .broker import message, queued, runner
from .lab import Lab, Machine
from .waiting import wait_for


@pytest.fixture(scope="module")
def door(lab: Lab) -> Iterator[httpx.Client]:
    with runner(lab) as client:
        yield client


def traces(machine: Machine, unit: str, *words: str) -> list[str]:
    journal = machine.run(f"journalctl -u {unit} --since=-10min --no-pager -o cat")
    return [line for line in journal.splitlines() if any(word in line for word in words)]


class TestRefusals:
    def test_nothing_refused_reaches_the_broker(
        self, lab: Lab, broker: Machine, queue: Machine, worker: Machine
    ) -> None:
        before = queued(broker)
        tasks = [self.refused(lab, number) for number in range(len(self.CASES))]
        assert queued(broker) == before
        assert traces(worker, "labfleet-worker", *tasks) == []
        assert traces(queue, "labfleet-publisher", *tasks) == []

    CASES = (
        ("no password", None, None, 401, "unauthorized"),
        ("wrong password", "web", "x" * 32, 401, "unauthorized"),
        ("unknown front end", "nobody", "x" * 32, 401, "unauthorized"),
        ("no JSON", "web", b"{messages: oops", 400, "malformed"),
        ("not UTF-8", "web", b"\xff\xfe\x00", 400, "malformed"),
        ("no list", "web", b'{"messages": {}}', 422, "invalid"),
        ("unknown member", "web", {"extra": 1}, 422, "invalid"),
        ("attempt 0", "web", {"attempt": 0}, 422, "invalid"),
        ("key with a space", "web", {"key": "a b"}, 422, "invalid"),
        ("too large", "web", b" " * (17 * 1024 * 1024), 413, None),
    )

    def refused(self, lab: Lab, number: int) -> str:
        name, front_end, bad, status, code = self.CASES[number]
        good = message()
        password = bad if isinstance(bad, str) else None
        with runner(lab, front_end, password) as client:
            if isinstance(bad, bytes):
                answer = client.post("/runner/v1/schedule", content=bad)
            else:
                more = bad if isinstance(bad, dict) else {}
                answer = client.post("/runner/v1/schedule", json={"messages": [good | more]})
        assert answer.status_code == status, f"{name}: {answer.status_code} {answer.text}"
        assert_problem(answer, status, code)
        return str(good["task"])

    def test_unknown_calls(self, door: httpx.Client) -> None:
        assert_problem(door.post("/runner/v1/dance", content=b"{}"), 404)
        assert_problem(door.get("/runner/v1/schedule"), 405)
        assert door.get("/").status_code == 404
        assert door.get("/runner/v1/../../etc/passwd").status_code in {400, 404}

    def test_password_in_the_answer_of_nothing(self, lab: Lab, door: httpx.Client) -> None:
        answer = door.post("/runner/v1/schedule", content=b"{")
        assert lab.secret("front_end_password_web") not in answer.text


class TestCalls:
    def test_health_needs_no_password(self, lab: Lab) -> None:
        with runner(lab, None) as client:
            assert client.get("/runner/v1/health").status_code == 200

    def test_interface(self, door: httpx.Client) -> None:
        answer = door.post("/runner/v1/interface", content=archive())
        assert answer.status_code == 200, answer.text
        assert answer.json()["name"] == "acceptance-archive"
        assert answer.json()["parameters"]["properties"]["count"]["default"] == 3

    def test_interface_of_a_broken_protocol(self, door: httpx.Client) -> None:
        answer = door.post("/runner/v1/interface", content=archive(GOOD.replace("key: python\n", "")))
        assert 400 <= answer.status_code < 500
        assert "key" in answer.text

    def test_check(self, door: httpx.Client) -> None:
        assert door.post("/runner/v1/check", content=archive()).json()["problems"] == []
        problems = door.post("/runner/v1/check", content=archive(main_py="def f(:\n")).json()["problems"]
        assert problems[0]["file"] == "main.py"

    def test_check_of_a_climbing_archive(self, door: httpx.Client, queue: Machine) -> None:
        assert ".." in door.post("/runner/v1/check", content=climbing()).text
        assert not queue.host.file("/etc/cron.d/x").exists

    def test_unknown_task_is_dropped_by_the_worker(
        self, door: httpx.Client, broker: Machine, worker: Machine
    ) -> None:
        stranger = message()
        answer = door.post("/runner/v1/schedule", json={"messages": [stranger]})
        assert answer.status_code == 200, answer.text
        assert answer.json()["results"] == [{"task": stranger["task"], "attempt": 1, "status": "confirmed"}]
        wait_for(lambda: not any(queued(broker).values()), 60, "the message to be consumed")
        wait_for(
            lambda: traces(worker, "labfleet-worker", stranger["task"]),
            20,
            "the worker to say that it dropped it",
        )
        assert not worker.run(
            f"ls /var/lib/labfleet-worker/attempts | grep {stranger['task']} || true"
        ).strip()

    def test_unroutable_key(self, door: httpx.Client, broker: Machine) -> None:
        before = queued(broker)
        answer = door.post("/runner/v1/schedule", json={"messages": [message("no.such.key")]})
        assert [row["status"] for row in answer.json()["results"]] == ["unroutable"]
        assert queued(broker) == before

    def test_cancel_stops_a_running_attempt(self, door: httpx.Client, user: Api) -> None:
        job = user.submit("acceptance-behave", {"action": "wait", "number": 100})
        task = user.wait(job, "running")
        body = {"messages": [{"task": task["id"], "attempt": task["attempt"]}]}
        answer = door.post("/runner/v1/cancel", content=json.dumps(body))
        assert answer.json()["results"][0]["status"] == "confirmed", answer.text
        # The front end's wish stops the attempt; as nobody asked the webserver it is handed back.
        wait_for(
            lambda: len([e for e in user.events(task) if e["to_state"] == "queued"]) > 1, 20, "the hand-back"
        )
        user.cancel(job)
        assert user.wait(job)["state"] == "cancelled"
