from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session, sessionmaker

from labfleet.cli.credentials import Credentials, save
from labfleet.db.models import User
from labfleet.users.service import issue_token

Run = Callable[..., Any]
CSV = "a,b\n1,2\n3,4\n"


@pytest.fixture
def submit(signed_in: Run, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Submit a job of `table-summary`; gives it."""

    def submit(*more: str) -> dict[str, Any]:
        (tmp_path / "table.csv").write_text(CSV)
        ended = signed_in(
            "submit", "table-summary", "-i", f"table=@{tmp_path / 'table.csv'}", "--json", *more
        )
        assert ended.code == 0, ended.err
        job: dict[str, Any] = json.loads(ended.out)
        return job

    return submit


def task_of(job: dict[str, Any]) -> str:
    return str(job["tasks"][0]["id"])


def test_submit(submit: Callable[..., dict[str, Any]], signed_in: Run) -> None:
    job = submit("--label", "first", "-p", "top=3", "-p", "delimiter=comma")
    assert job["state"] == "queued"
    assert job["tasks"][0]["parameters"] == {"top": 3, "delimiter": "comma", "missing": ["NA", "NaN", "null"]}
    listed = signed_in("jobs").out
    for text in (job["id"], "queued", "table-summary", "first"):
        assert text in listed
    assert json.loads(signed_in("jobs", "--json", "--state", "queued").out)["items"][0]["id"] == job["id"]
    assert "No jobs match" in signed_in("jobs", "--state", "failed").err


def test_parameters_from_a_file(submit: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "p.yml").write_text("top: 7\nmissing: ['-']\n")
    job = submit("--params", str(tmp_path / "p.yml"), "-p", "top=8")
    assert job["tasks"][0]["parameters"] == {"top": 8, "delimiter": "auto", "missing": ["-"]}


def test_jobs_are_shared_and_taken_back(
    submit: Callable[..., dict[str, Any]],
    signed_in: Run,
    server: Any,
    make_user: Callable[..., User],
    sessions: sessionmaker[Session],
) -> None:
    eve = make_user("eve")
    job, other = (submit("--note", "Mine alone.")["id"] for _ in range(2))
    assert signed_in("share", job).code == 2
    assert "is no user 'bob'" in signed_in("share", job, "--user", "bob").err
    told = signed_in("share", job, other, "--user", "eve").out
    assert told == f"Job {job}: shared, shared with eve.\nJob {other}: shared, shared with eve.\n"
    assert json.loads(signed_in("share", job, "--everybody", "--json").out)["visibility"] == "public"
    assert signed_in("unshare", other, "--user", "eve").out == f"Job {other}: private.\n"
    assert "for        public, shared with eve" in signed_in("show", job).out
    assert job in signed_in("jobs", "--whose", "public").out
    with sessions.begin() as db:
        save(Credentials(server.url, issue_token(db, db.merge(eve))))
    assert "No jobs" in signed_in("jobs").err
    assert signed_in("jobs", "--whose", "shared").out.count("table-summary") == 1
    shown = signed_in("show", job).out
    assert "owner      ada" in shown and "Mine alone" not in shown
    assert "belongs to 'ada'" in signed_in("unshare", job, "--everybody").err
    assert "belongs to 'ada'" in signed_in("cancel", job).err
    assert signed_in("show", other).code == 1


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["none"], "none"),
        (["table-summary"], "table"),
        (["table-summary", "--version", "9"], "9"),
        (["table-summary", "-i", "table=00000000-0000-0000-0000-000000000000"], "0000"),
        (["table-summary", "-i", "table=x"], "Error"),
        (["table-summary", "-i", "table"], "no dataset"),
        (["table-summary", "-i", "table=@/nowhere"], "is no file"),
        (["table-summary", "-i", "tabel=@table.csv"], "tabel"),
        (["table-summary", "-i", "table=@table.csv", "-p", "top=many"], "top"),
        (["table-summary", "-i", "table=@table.csv", "-p", "topp=1"], "topp"),
        (["table-summary", "-i", "table=@table.csv", "-p", "top"], "no value"),
        (["table-summary", "-i", "table=@table.csv", "--params", "bad.yml"], "bad.yml"),
        (["table-summary", "-i", "table=@table.csv", "--params", "list.yml"], "no mapping"),
    ],
)
def test_what_can_not_be_submitted(signed_in: Run, tmp_path: Path, arguments: list[str], text: str) -> None:
    (tmp_path / "table.csv").write_text(CSV)
    (tmp_path / "bad.yml").write_text("a: [")
    (tmp_path / "list.yml").write_text("- a")
    ended = signed_in("submit", *arguments)
    assert ended.code == 1
    assert text in ended.err.splitlines()[0]
    assert "Hint:" in ended.err
    assert signed_in("jobs").out == ""


def test_watch_tells_states_progress_and_log(
    submit: Callable[..., dict[str, Any]], signed_in: Run, worker: Any, tmp_path: Path
) -> None:
    job = submit()
    task = task_of(job)

    def work() -> None:
        time.sleep(0.7)
        worker.claim(task)
        worker.tell(task, 0.4, "half way")
        offset = worker.log(task, 0, b"first line\nsecond \x1b[31mred\n")
        time.sleep(1.2)
        worker.log(task, offset, b"unfinished")
        worker.artifact(task, "summary.csv", b"column\na\n")
        worker.finish(task, "success")

    thread = threading.Thread(target=work)
    thread.start()
    ended = signed_in("watch", job["id"])
    thread.join()
    assert ended.code == 0, ended.err
    lines = ended.out.splitlines()
    states = [line.split()[1] for line in lines if line[2:3] == ":"]
    assert states == ["queued", "running", "success"]
    assert any("running on w1" in line for line in lines)
    assert " 40% half way" in lines
    assert "│ first line" in lines
    assert "\x1b" not in ended.out
    assert "│ unfinished" in lines
    shown = signed_in("show", job["id"]).out
    assert "summary.csv" in shown
    assert "success" in shown


@pytest.mark.parametrize(
    ("outcome", "failure", "code", "text"),
    [
        ("failed", "user", 3, "the protocol's or its input's fault): no such column"),
        ("failed", "system", 7, "Labfleet's own fault): Given up after 3 attempts. no such column"),
        ("inapplicable", None, 5, "inapplicable: no such column"),
    ],
)
def test_exit_codes_tell_the_end(
    submit: Callable[..., dict[str, Any]],
    signed_in: Run,
    worker: Any,
    outcome: str,
    failure: str | None,
    code: int,
    text: str,
) -> None:
    job = submit()
    task = task_of(job)
    # A failure of ours is tried again, up to the limit.
    for number in range(1, 4 if failure == "system" else 2):
        worker.claim(task, number)
        worker.finish(task, outcome, number, failure=failure, exit_code=1, message="no such column")
    ended = signed_in("watch", job["id"], "--json")
    assert ended.code == code, ended.err
    assert text in ended.err
    assert json.loads(ended.out)["state"] == outcome


def test_cancel(submit: Callable[..., dict[str, Any]], signed_in: Run) -> None:
    job = submit()
    ended = signed_in("cancel", job["id"])
    assert ended.code == 0
    assert "its state is cancelled" in ended.out
    assert signed_in("watch", job["id"]).code == 6


def test_watching_survives_an_outage(
    submit: Callable[..., dict[str, Any]],
    signed_in: Run,
    worker: Any,
    server: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("labfleet.cli.client.FIRST_PAUSE_SECONDS", 0.05)
    job = submit()

    def outage() -> None:
        time.sleep(0.5)
        server.stop()
        time.sleep(2)
        server.start()
        worker.claim(task_of(job))
        worker.finish(task_of(job), "success")

    thread = threading.Thread(target=outage)
    thread.start()
    ended = signed_in("watch", job["id"])
    thread.join()
    assert ended.code == 0, ended.err
    assert "The job goes on; trying again" in ended.out


def test_patience_ends(
    submit: Callable[..., dict[str, Any]], signed_in: Run, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("labfleet.cli.client.FIRST_PAUSE_SECONDS", 0.01)
    job = submit()
    server.stop()
    ended = signed_in("watch", job["id"], "--patience", "0.5")
    assert ended.code == 1
    assert "can't be reached" in ended.err


def test_fetch(submit: Callable[..., dict[str, Any]], signed_in: Run, worker: Any, tmp_path: Path) -> None:
    job = submit()
    worker.claim(task_of(job))
    files = {"summary.csv": b"x" * 100_000, "tables/more.txt": b"more", "empty.txt": b""}
    for name, content in files.items():
        worker.artifact(task_of(job), name, content)
    worker.finish(task_of(job), "success")
    ended = signed_in("fetch", job["id"], "-o", str(tmp_path / "results"))
    assert ended.code == 0, ended.err
    assert {line.removeprefix(f"{tmp_path}/results/") for line in ended.out.splitlines()} == set(files)
    for name, content in files.items():
        assert (tmp_path / "results" / name).read_bytes() == content
    assert not list((tmp_path / "results").rglob("*.part"))
    # Again: nothing is brought twice, what was changed is brought anew.
    (tmp_path / "results/summary.csv").write_bytes(b"changed")
    before = (tmp_path / "results/tables/more.txt").stat().st_mtime_ns
    assert signed_in("fetch", job["id"], "-o", str(tmp_path / "results")).code == 0
    assert (tmp_path / "results/summary.csv").read_bytes() == files["summary.csv"]
    assert (tmp_path / "results/tables/more.txt").stat().st_mtime_ns == before


def test_fetch_before_there_is_anything(submit: Callable[..., dict[str, Any]], signed_in: Run) -> None:
    ended = signed_in("fetch", submit()["id"])
    assert ended.code == 0
    assert "no artifacts (yet)" in ended.err


@pytest.mark.parametrize("verb", ["show", "watch", "cancel", "fetch"])
def test_unknown_jobs(signed_in: Run, verb: str) -> None:
    for job in ("00000000-0000-0000-0000-000000000000", "none", "../me", ".."):
        ended = signed_in(verb, job)
        assert ended.code == 1
        assert ended.err.startswith("Error: ")
        assert "Traceback" not in ended.err
