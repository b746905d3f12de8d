"""Protocols with libraries of their own, on the deployed lab and without any way to an index."""

from __future__ import annotations

import pytest

from .api import Api, Json


def ended(user: Api, protocol: str, line: str, needs: Json | None = None) -> tuple[Json, str]:
    leaf = {"task": "libraries", "protocol": protocol, **({"needs": needs} if needs else {})}
    answer = user.http.post("/api/v1/jobs", json={"tree": leaf})
    assert answer.status_code == 201, f"{answer.status_code} {answer.text}"
    task = user.wait(answer.json())
    log = user.log(task).decode()
    assert task["state"] == "success", f"{task['message']}\n{log}"
    assert line in [each.strip() for each in log.splitlines()]
    return task, log


@pytest.mark.parametrize(
    ("protocol", "line", "kind", "package"),
    [
        (
            "acceptance-libraries",
            "library 1.0 of /labfleet/environment",
            "Python",
            "acceptance-library 1.0",
        ),
        (
            "acceptance-r-libraries",
            "library acceptancelibrary 1.0 of /labfleet/library",
            "R",
            "acceptancelibrary 1.0",
        ),
    ],
    ids=["python", "r"],
)
def test_libraries_of_a_lock_file(user: Api, protocol: str, line: str, kind: str, package: str) -> None:
    task, _ = ended(user, protocol, line)
    told = user.get(f"tasks/{task['id']}/provenance")["attempts"][0]["environment"]
    assert told[f"{kind} packages"] == package
    assert len(told[f"{kind} environment"]) == 64

    same_worker = {"tags": [f"machine.{task['worker'].lower()}"]}
    _, log = ended(user, protocol, line, needs=same_worker)
    assert "building the environment" not in log
