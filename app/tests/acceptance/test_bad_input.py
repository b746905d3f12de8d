"""Bad input: each kind ends with a clear message, and leaves nothing behind."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from .api import Api, Json, assert_problem
from .archives import GOOD, archive, climbing
from .conftest import Cli
from .lab import Lab, Machine
from .waiting import wait_for

NOWHERE = "00000000-0000-4000-8000-000000000000"

BROKEN = {
    "broken YAML": (archive("labfleet: 1\nname: [\n"), "protocol.yml", "yaml"),
    "field missing": (archive(GOOD.replace("title: An archive\n", "")), "protocol.yml", "title"),
    "command not there": (archive(GOOD.replace("main.py", "absent.py")), "protocol.yml", "absent.py"),
    "unknown interpreter": (
        archive(GOOD.replace("[python3, main.py]", "[cobol85]")),
        "protocol.yml",
        "cobol85",
    ),
    "Python that does not parse": (archive(main_py="def f(:\n"), "main.py", ""),
    "R that does not parse": (archive(main_R="f <- function( {\n"), "main.R", ""),
    "schema that is none": (archive(GOOD.replace("minimum: 1", "minimum: one")), "protocol.yml", "minimum"),
}


class TestProtocolsThatAreBroken:
    @pytest.mark.parametrize("kind", BROKEN)
    def test_check_names_file_and_remedy(self, user: Api, kind: str) -> None:
        content, file, word = BROKEN[kind]
        answer = user.http.post(
            "/api/v1/protocols/check", content=content, headers={"Content-Type": "application/x-tar"}
        )
        assert answer.status_code == 200, answer.text
        problems = answer.json()["problems"]
        assert problems
        fault = problems[0]
        assert fault["file"] == file
        assert fault["line"] or word in fault["message"]
        assert word in f"{fault['message']} {fault['code']}"
        assert fault["hint"]

    def test_a_good_one_has_no_problems(self, user: Api) -> None:
        answer = user.http.post(
            "/api/v1/protocols/check", content=archive(), headers={"Content-Type": "application/x-tar"}
        )
        assert answer.json()["problems"] == []

    def test_climbing_archive(self, user: Api, webserver: Machine) -> None:
        answer = user.http.post("/api/v1/protocols/check", content=climbing())
        assert answer.status_code in {200, 400, 422}, answer.text
        assert ".." in answer.text
        assert not webserver.host.file("/etc/cron.d/x").exists

    def test_no_archive_at_all(self, user: Api) -> None:
        answer = user.http.post("/api/v1/protocols/check", content=b"no tar at all")
        assert answer.status_code in {200, 400, 422}
        assert "hint" in answer.text

    def test_command_line_says_it_in_one_line_each(self, signed_in: Cli, tmp_path: Path) -> None:
        (tmp_path / "protocol.yml").write_text(GOOD.replace("main.py", "absent.py"))
        done = signed_in("protocols", "check", str(tmp_path), code=1)
        assert "absent.py" in done.stdout + done.stderr
        assert "Traceback" not in done.stderr


class TestRequestsThatAreWrong:
    @pytest.mark.parametrize(
        ("body", "status", "code", "word"),
        [
            ({"protocol": "no-such-protocol"}, 404, "unknown_protocol", "no-such-protocol"),
            ({"protocol": "acceptance-noop", "version": "9.9.9"}, 404, "unknown_version", "9.9.9"),
            ({"protocol": "acceptance-behave"}, 422, "invalid_parameters", "action"),
            (
                {"protocol": "acceptance-behave", "parameters": {"action": "fly"}},
                422,
                "invalid_parameters",
                "fly",
            ),
            (
                {"protocol": "acceptance-behave", "parameters": {"action": "exit", "number": -1}},
                422,
                "invalid_parameters",
                "number",
            ),
            (
                {"protocol": "acceptance-behave", "parameters": {"action": "exit", "wings": 2}},
                422,
                "invalid_parameters",
                "wings",
            ),
            ({"protocol": "table-summary", "inputs": {"table": NOWHERE}}, 404, "unknown_dataset", NOWHERE),
            ({"protocol": "table-summary", "inputs": {"chair": NOWHERE}}, 422, "invalid_inputs", "chair"),
            ({"protocol": "table-summary"}, 422, "invalid_inputs", "table"),
            ({"protocol": "../../etc/passwd"}, None, None, ""),
            ({"protocol": "acceptance-noop", "surprise": 1}, 422, None, "surprise"),
            ({}, 422, None, "protocol"),
        ],
        ids=lambda value: None if not isinstance(value, dict) else str(value)[:40],
    )
    def test_submit(self, user: Api, body: Json, status: int | None, code: str | None, word: str) -> None:
        before = user.get("jobs?limit=1")["items"]
        answer = user.http.post("/api/v1/jobs", json=body)
        problem = assert_problem(answer, status or answer.status_code, code)
        assert 400 <= problem["status"] < 500
        assert word in answer.text
        assert user.get("jobs?limit=1")["items"] == before, "nothing was accepted"

    @pytest.mark.parametrize("body", [b"{", b"", b"not json", b'"text"', b"[1]", b"\xff\xfe", b"null"])
    def test_body_is_no_json(self, user: Api, body: bytes) -> None:
        answer = user.http.post("/api/v1/jobs", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code in {400, 422}
        assert_problem(answer, answer.status_code)

    def test_unknown_path_and_method(self, user: Api) -> None:
        assert_problem(user.http.get("/api/v1/nothing-here"), 404)
        assert_problem(user.http.delete("/api/v1/jobs"), 405)

    @pytest.mark.parametrize("name", ["..", "../x.csv", "a/b.csv", "/etc/passwd", "a\u0000b", "", "x" * 500])
    def test_name_of_a_dataset(self, user: Api, name: str) -> None:
        answer = user.http.post("/api/v1/datasets", params={"name": name}, content=b"a,b\n")
        assert answer.status_code in {400, 422}, answer.text
        assert_problem(answer, answer.status_code)

    @pytest.mark.parametrize(
        "path", ["artifacts/../jobs", "protocols/..", "protocols/%2e%2e%2f%2e%2e", "jobs/.."]
    )
    def test_climbing_path(self, user: Api, path: str) -> None:
        answer = user.http.get(f"/api/v1/{path}")
        assert answer.status_code in {200, 308, 400, 404}
        assert "root:" not in answer.text


def store(webserver: Machine) -> set[str]:
    return set(
        webserver.run("find /var/lib/labfleet/store/tmp /var/lib/labfleet/store/blobs -type f").split()
    )


class TestUploadsCutOff:
    def test_leaves_nothing(self, lab: Lab, user: Api, webserver: Machine) -> None:
        before = store(webserver)
        with self.connection(lab) as stream:
            head = (
                "POST /api/v1/datasets?name=cut.csv HTTP/1.1\r\n"
                f"Host: {urlsplit(lab.url).hostname}\r\nAuthorization: Bearer {user.token}\r\n"
                "Content-Type: text/csv\r\nContent-Length: 50000000\r\n\r\n"
            )
            stream.sendall(head.encode() + b"1,2,3\n" * 1_000_000)
            wait_for(lambda: store(webserver) - before, 60, "the upload to have begun on disk")
            stream.shutdown(socket.SHUT_RDWR)
        wait_for(lambda: store(webserver) == before, 60, "the remains to be gone")
        assert "cut.csv" not in [item["name"] for item in user.get("datasets")["items"]]

    def connection(self, lab: Lab) -> ssl.SSLSocket:
        context = ssl.create_default_context(cafile=str(lab.ca_file))
        host = urlsplit(lab.url).hostname
        return context.wrap_socket(socket.create_connection((host, 443), timeout=30), server_hostname=host)


class TestProtocolsThatMisbehave:
    def end(self, user: Api, seconds: float = 60, **parameters: object) -> Json:
        return user.wait(user.submit("acceptance-behave", parameters), seconds=seconds)

    def test_exits_non_zero(self, user: Api) -> None:
        task = self.end(user, action="exit", number=3)
        assert (task["state"], task["failure"], task["exit_code"]) == ("failed", "user", 3)
        assert task["attempt"] == 1, "a user's failure is not retried by itself"
        assert "3" in task["message"]
        assert b"the reagent is spent" in user.log(task)

    def test_exits_non_zero_and_leaves_something(self, user: Api) -> None:
        job = user.submit("acceptance-behave", {"action": "half", "number": 3})
        task = user.wait(job)
        assert (task["state"], task["failure"], task["exit_code"]) == ("partial", None, 3)
        assert "the reagent is spent" in task["message"]
        assert user.content(user.artifacts(task)["result.txt"]).content == b"done\n"
        assert user.get(f"jobs/{job['id']}")["state"] == "partial"

    def test_says_it_is_inapplicable(self, user: Api) -> None:
        task = self.end(user, action="inapplicable")
        assert (task["state"], task["failure"], task["exit_code"]) == ("inapplicable", None, 65)
        assert "needs two groups, found one" in task["message"]

    def test_prints_megabytes(self, user: Api) -> None:
        task = self.end(user, action="print", number=64, seconds=90)
        assert (task["state"], task["failure"]) == ("success", None), task
        size = int(user.http.get(f"/api/v1/tasks/{task['id']}/log").headers["X-Log-Size"])
        assert 1024 < size < 64 * 1024 * 1024, "the log is cut at its limit"
        tail = user.http.get(f"/api/v1/tasks/{task['id']}/log", params={"offset": max(0, size - 2000)}).text
        assert "log" in tail.splitlines()[-1].lower(), tail[-300:]

    def test_leaves_a_declared_output_out(self, user: Api) -> None:
        task = self.end(user, action="omit")
        assert (task["state"], task["failure"], task["exit_code"]) == ("failed", "user", 0)
        assert "result.txt" in task["message"]

    def test_leaves_a_link_for_an_output(self, user: Api) -> None:
        task = self.end(user, action="link")
        assert (task["state"], task["failure"]) == ("failed", "user")
        assert "result.txt" in task["message"]
        assert not user.artifacts(task)

    def test_takes_too_much_memory(self, user: Api) -> None:
        task = self.end(user, action="memory", number=60)
        assert (task["state"], task["failure"], task["attempt"]) == ("failed", "user", 1), task

    def test_fills_the_disk(self, user: Api, worker: Machine) -> None:
        task = self.end(user, action="disk", number=20_000, seconds=150)
        assert (task["state"], task["failure"], task["attempt"]) == ("failed", "user", 1), task
        left = worker.run("ls /var/lib/labfleet-worker/attempts").split()
        assert not [name for name in left if name.startswith(task["id"])]

    def test_runs_past_its_time(self, user: Api) -> None:
        task = user.wait(user.submit("acceptance-hasty"), seconds=60)
        assert (task["state"], task["failure"], task["attempt"]) == ("failed", "user", 1), task
        assert "3" in task["message"]
        assert b"started" in user.log(task)
