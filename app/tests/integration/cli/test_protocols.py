"""`labfleet protocols`: bringing one, and deciding who may use it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from protocol_archives import archive, files_of

from labfleet.db.models import User

Run = Callable[..., Any]


def written(directory: Path, **about: Any) -> str:
    directory.mkdir(exist_ok=True)
    for name, text in files_of(**about).items():
        (directory / name).write_text(text)
    return str(directory)


def test_push_a_directory_and_an_archive(signed_in: Run, tmp_path: Path) -> None:
    tree = written(tmp_path / "mine")
    pushed = signed_in("protocols", "push", tree)
    assert pushed.code == 0, pushed.err
    assert pushed.out.startswith("kept mine 1.0.0 ")
    assert signed_in("protocols", "push", tree).out.startswith("unchanged mine 1.0.0 ")
    (tmp_path / "mine.tar").write_bytes(archive(version="1.1.0"))
    assert json.loads(signed_in("protocols", "push", str(tmp_path / "mine.tar"), "--json").out)["created"]
    versions = json.loads(signed_in("protocols", "versions", "mine", "--json").out)
    assert [item["version"] for item in versions] == ["1.1.0", "1.0.0"]
    listed = signed_in("protocols", "list", "--text", "mine").out
    assert "ada" in listed
    assert "private" in listed
    assert signed_in("submit", "mine", "--version", "1.0.0").code == 0


def test_a_fault_is_told_with_file_and_line(signed_in: Run, tmp_path: Path) -> None:
    tree = written(tmp_path / "mine", files={"main.py": "def f(:\n"})
    refused = signed_in("protocols", "push", tree)
    assert refused.code == 1
    assert "main.py:1: " in refused.err
    assert json.loads(signed_in("protocols", "list", "--text", "mine", "--json").out) == []


def test_who_may_use_it(signed_in: Run, tmp_path: Path, make_user: Callable[..., User]) -> None:
    make_user("bob")
    signed_in("protocols", "push", written(tmp_path / "mine"))
    shared = signed_in("protocols", "share", "mine", "--user", "bob").out
    assert shared == "Protocol mine of ada: shared, shared with bob.\n"
    assert (
        signed_in("protocols", "unshare", "mine", "--user", "bob").out == "Protocol mine of ada: private.\n"
    )
    assert signed_in("protocols", "publish", "mine").out == "Protocol mine of ada: public.\n"
    assert json.loads(signed_in("protocols", "withdraw", "mine", "--json").out)["visibility"] == "private"
    assert signed_in("protocols", "share", "mine").code == 2
    assert "is no user 'eve'" in signed_in("protocols", "share", "mine", "--user", "eve").err
    assert signed_in("protocols", "transfer", "mine", "bob").out == "Protocol mine of bob: private.\n"
    assert signed_in("protocols", "delete", "mine").code == 1
    signed_in("protocols", "push", written(tmp_path / "other", name="other"))
    assert signed_in("protocols", "delete", "other").out == "Protocol other: deleted.\n"


def test_what_changed_between_two(signed_in: Run, tmp_path: Path) -> None:
    signed_in("protocols", "push", written(tmp_path / "mine"))
    signed_in("protocols", "push", written(tmp_path / "mine", version="1.1.0", title="Better"))
    told = signed_in("protocols", "diff", "mine", "1.0.0").out
    assert "mine: 1.0.0 → 1.1.0" in told
    assert "Better" in told
    assert '+version: "1.1.0"' in told
    same = signed_in("protocols", "diff", "mine", "1.0.0", "1.0.0").err
    assert "The interface is the same." in same
    assert json.loads(signed_in("protocols", "diff", "mine", "1.0.0", "--json").out)["files"]


SELF_TEST = """
parameters: {type: object, properties: {top: {type: integer}}, required: [top], additionalProperties: false}
inputs: {table: {title: Table}}
outputs: {summary: {path: summary.csv, kind: table, title: Summary}}
self_test:
  parameters: {top: 3}
  inputs: {table: sample.csv}
  expect:
    - {output: summary, column: mean, row: 2, value: 3.5, tolerance: 0.01}"""


def tried(signed_in: Run, worker: Any, content: bytes, outcome: str = "success") -> str:
    """How the newest version is said to have fared, after a self-test that has left this."""
    begun = json.loads(signed_in("protocols", "test", "mine", "--no-wait", "--json").out)
    assert begun["state"] == "running"
    job = json.loads(signed_in("show", begun["job"], "--json").out)
    assert (job["label"], job["labels"]) == ("Self-test of mine 1.0.0", ["self-test"])
    task = job["tasks"][0]
    assert task["parameters"] == {"top": 3}
    claimed = worker.claim(task["id"])
    assert [(each["slot"], each["name"]) for each in claimed["inputs"]] == [("table", "mine-sample.csv")]
    worker.artifact(task["id"], "summary.csv", content)
    failure = {"failure": "user", "message": "exit 1"} if outcome == "failed" else {}
    worker.finish(task["id"], outcome, **failure)
    return str(signed_in("protocols", "versions", "mine").out)


def test_a_version_is_tried_by_a_job(signed_in: Run, worker: Any, tmp_path: Path) -> None:
    tree = written(tmp_path / "mine", files={"sample.csv": "a\n1\n"}, extra=SELF_TEST)
    assert signed_in("protocols", "push", tree).code == 0
    assert "passed" in tried(signed_in, worker, b"name,mean\na,1\nb,3.505\n")
    assert "'mean' in row 2 is '3.6', expected 3.5 ± 0.01" in tried(
        signed_in, worker, b"name,mean\na,1\nb,3.6\n"
    )
    assert "It ended failed: exit 1" in tried(signed_in, worker, b"x\n", "failed")
    written(tmp_path / "mine", version="1.1.0", files={"sample.csv": "a\n1\n"})
    assert signed_in("protocols", "push", tree).code == 0
    none = signed_in("protocols", "test", "mine")
    assert none.code == 1
    assert "mine 1.1.0 does not say how it is tried" in none.err
