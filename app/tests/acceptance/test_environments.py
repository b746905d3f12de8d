"""A protocol with libraries of its own, on the deployed lab and without any way to an index."""

from __future__ import annotations

from .api import Api, Json


def ended(user: Api, needs: Json | None = None) -> tuple[Json, str]:
    leaf = {"task": "libraries", "protocol": "acceptance-libraries", **({"needs": needs} if needs else {})}
    answer = user.http.post("/api/v1/jobs", json={"tree": leaf})
    assert answer.status_code == 201, f"{answer.status_code} {answer.text}"
    task = user.wait(answer.json())
    log = user.log(task).decode()
    assert task["state"] == "success", f"{task['message']}\n{log}"
    assert "library 1.0 of /labfleet/environment" in log.splitlines()
    return task, log


def test_libraries_of_a_lock_file(user: Api) -> None:
    task, _ = ended(user)
    told = user.get(f"tasks/{task['id']}/provenance")["attempts"][0]["environment"]
    assert told["Python packages"] == "acceptance-library 1.0"
    assert len(told["Python environment"]) == 64

    same_worker = {"tags": [f"machine.{task['worker'].lower()}"]}
    _, log = ended(user, needs=same_worker)
    assert "building the environment" not in log
