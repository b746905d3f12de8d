"""A job goes out as an RO-Crate and comes back, over a real server; another library reads it."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rocrate.rocrate import ROCrate
from sqlalchemy.orm import Session, sessionmaker

from labfleet.cli.credentials import Credentials, save
from labfleet.db.models import User
from labfleet.users.service import issue_token

Run = Callable[..., Any]
CSV = "a,b\n1,2\n3,4\n"
MANIFEST = """labfleet: 1
name: own
version: 1.0.0
title: One of my own
key: python
command: [./run.sh]
inputs: {table: {title: A table}}
outputs: {summary: {path: "sum mary.txt", kind: text, title: The summary}}
"""


@pytest.fixture
def protocol(tmp_path: Path, signed_in: Run) -> None:
    """A protocol of the user's own, with a program and a link."""
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "protocol.yml").write_text(MANIFEST)
    (folder / "run.sh").write_text("#!/bin/sh\nexit 0\n")
    (folder / "run.sh").chmod(0o755)
    (folder / "link.sh").symlink_to("run.sh")
    assert signed_in("protocols", "push", str(folder)).code == 0


@pytest.fixture
def job(signed_in: Run, worker: Any, protocol: None, tmp_path: Path) -> dict[str, Any]:
    """A job of two tasks that has ended, the second with what the first has left."""
    (tmp_path / "table.csv").write_text(CSV)
    uploaded = json.loads(signed_in("datasets", "upload", str(tmp_path / "table.csv"), "--json").out)
    (tmp_path / "job.yml").write_text(
        f"""label: Two tasks
tree:
  sequential:
    - {{task: first, protocol: own, inputs: {{table: {uploaded["id"]}}}}}
    - {{task: "second", protocol: table-summary, parameters: {{top: 3}},
       inputs: {{table: {{task: first, output: summary}}}}}}
"""
    )
    ended = signed_in("submit", str(tmp_path / "job.yml"), "--json")
    assert ended.code == 0, ended.err
    made = json.loads(ended.out)
    for task, name in zip(made["tasks"], ("sum mary.txt", "summary.csv"), strict=True):
        worker.claim(task["id"])
        worker.artifact(task["id"], name, f"of {task['name']}\n".encode())
        worker.finish(task["id"], "success", environment={"os": "Debian", "Python packages": "numpy 1"})
    found: dict[str, Any] = json.loads(signed_in("show", made["id"], "--json").out)
    assert found["state"] == "success"
    return found


@pytest.fixture
def crate(signed_in: Run, job: dict[str, Any], tmp_path: Path) -> Path:
    path = tmp_path / "job.crate.zip"
    ended = signed_in("export", job["id"], "-o", str(path))
    assert (ended.code, ended.out.strip()) == (0, str(path)), ended.err
    return path


@pytest.fixture
def other(
    server: Any,
    signed_in: Run,
    sessions: sessionmaker[Session],
    user: User,
    make_user: Callable[..., User],
) -> Run:
    """`signed_in` as another user, for one command each."""
    grace = make_user("grace")

    def sign_in(who: User) -> None:
        with sessions.begin() as session:
            save(Credentials(server.url, issue_token(session, session.merge(who))))

    def run(*arguments: str) -> Any:
        sign_in(grace)
        ended = signed_in(*arguments)
        sign_in(user)
        return ended

    return run


def by_type(crate: ROCrate, kind: str) -> list[Any]:
    return [entity for entity in crate.get_entities() if kind in _list(entity.type)]


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def test_another_library_reads_it(crate: Path, job: dict[str, Any], tmp_path: Path) -> None:
    with zipfile.ZipFile(crate) as archive:
        archive.extractall(tmp_path / "unpacked")
    read = ROCrate(tmp_path / "unpacked")

    assert read.root_dataset["name"] == "Two tasks"
    assert read.mainEntity.id == "request.json"
    profiles = {entity.id for entity in _list(read.root_dataset["conformsTo"])}
    assert "https://w3id.org/ro/wfrun/workflow/0.5" in profiles
    actions = {action["name"]: action for action in by_type(read, "CreateAction")}
    assert set(actions) == {"Run of Two tasks", "first", "second"}
    first, second = actions["first"], actions["second"]
    assert first["instrument"]["name"] == "own"
    assert [item.id for item in _list(first["result"])] == ["results/first/sum%20mary.txt"]
    assert _list(first["result"])[0].id in {item.id for item in _list(second["object"])}
    parameters = {item["name"]: item["value"] for item in _list(second["object"]) if "value" in item}
    assert parameters["top"] == 3
    assert {fact["name"]: fact["value"] for fact in _list(first["environment"])} == {
        "os": "Debian",
        "Python packages": "numpy 1",
    }
    assert first["agent"]["name"] == "ada"
    files = [entity for entity in by_type(read, "File") if not entity.id.startswith("#")]
    places = {Path(file.id).parts[0] for file in files}
    assert places == {"inputs", "protocols", "results", "request.json", "README.md"}
    for file in files:
        if file.id == "README.md":
            continue
        content = (tmp_path / "unpacked" / file.id.replace("%20", " ")).read_bytes()
        assert hashlib.sha256(content).hexdigest() == file["sha256"], file.id
        assert len(content) == int(file["contentSize"])


def test_it_comes_back_with_what_is_there(crate: Path, job: dict[str, Any], signed_in: Run) -> None:
    ended = signed_in("import", str(crate))
    assert (ended.code, ended.err) == (0, "")
    again = json.loads(signed_in("show", ended.out.strip(), "--json").out)

    assert again["id"] != job["id"]
    assert again["label"] == "Two tasks"
    for old, new in zip(job["tasks"], again["tasks"], strict=True):
        for name in ("protocol", "version", "commit", "parameters", "inputs", "name"):
            assert old[name] == new[name]


def test_it_comes_back_where_nothing_of_it_is_left(
    crate: Path, job: dict[str, Any], signed_in: Run, other: Run
) -> None:
    commit = job["tasks"][0]["commit"]
    assert signed_in("delete", job["id"]).code == 0
    assert signed_in("protocols", "delete", "own").code == 0

    dry = other("import", str(crate), "--dry-run")
    assert dry.code == 0, dry.err
    assert "sending the protocol own 1.0.0" in dry.err
    assert json.loads(other("protocols", "list", "--json").out)[0]["name"] != "own"

    ended = other("import", str(crate), "--json")
    assert ended.code == 0, ended.err
    again = json.loads(ended.out)
    assert again["owner"] == "grace"
    assert json.loads(other("protocols", "show", "own", "--json").out)["tree"]
    assert len(json.loads(other("datasets", "list", "--json").out)) == 1
    assert [task["protocol"] for task in again["tasks"]] == ["own", "table-summary"]
    assert commit


def test_a_protocol_with_other_content_is_refused(
    crate: Path, job: dict[str, Any], signed_in: Run, tmp_path: Path
) -> None:
    assert signed_in("delete", job["id"]).code == 0
    assert signed_in("protocols", "delete", "own").code == 0
    (tmp_path / "own" / "run.sh").write_text("#!/bin/sh\nexit 1\n")
    assert signed_in("protocols", "push", str(tmp_path / "own")).code == 0

    ended = signed_in("import", str(crate))
    assert ended.code == 1
    assert "own 1.0.0 with other files" in ended.err


def test_only_your_own_job_when_it_has_ended(
    job: dict[str, Any], signed_in: Run, other: Run, tmp_path: Path
) -> None:
    target = str(tmp_path / "x.zip")
    refused = other("export", job["id"], "-o", target)
    assert refused.code == 1
    assert not Path(target).exists()
    waiting = json.loads(signed_in("submit", str(tmp_path / "job.yml"), "--json").out)
    early = signed_in("export", waiting["id"], "-o", target)
    assert early.code == 1
    assert "has ended" in early.err
    assert sorted(path.name for path in tmp_path.glob("*.zip*")) == []
