"""Protocols of users: sending them, who sees them, and what becomes of what somebody may not see any more."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from protocol_archives import archive
from sqlalchemy import update
from sqlalchemy.orm import Session, sessionmaker
from werkzeug.test import TestResponse

from labfleet.db.models import Group, User
from labfleet.web.services import Services

Make = Callable[[User], Any]


@pytest.fixture
def bob(make_user: Callable[..., User]) -> User:
    return make_user("bob")


@pytest.fixture
def ada_api(caller: Make, user: User) -> Any:
    return caller(user)


@pytest.fixture
def bob_api(caller: Make, bob: User) -> Any:
    return caller(bob)


def send(api: Any, content: bytes, to: str = "protocols") -> TestResponse:
    answer: TestResponse = api("POST", to, data=content, content_type="application/x-tar")
    return answer


def names(api: Any, query: str = "") -> list[str]:
    return [item["name"] for item in api("GET", f"protocols{query}").json["items"]]


def test_what_a_user_sends_is_his_and_private(ada_api: Any, bob_api: Any) -> None:
    answer = send(ada_api, archive())
    assert answer.status_code == 201
    assert answer.headers["Location"] == "/api/v1/protocols/mine"
    assert answer.json["created"] is True
    shown = ada_api("GET", "protocols/mine").json
    assert (shown["owner"], shown["visibility"], shown["may_change"]) == ("ada", "private", True)
    assert shown["stored_bytes"] > 0
    assert names(ada_api) == ["mine"]
    assert names(bob_api) == []
    again = send(ada_api, archive())
    assert (again.status_code, again.json["created"]) == (200, False)


def test_what_one_may_not_see_does_not_exist(ada_api: Any, bob_api: Any) -> None:
    send(ada_api, archive())
    missing = bob_api("GET", "protocols/none").json
    calls = [
        ("GET", "protocols/mine", None),
        ("GET", "protocols/mine/versions", None),
        ("GET", "protocols/mine/interface", None),
        ("GET", "protocols/mine/interface?version=1.0.0", None),
        ("DELETE", "protocols/mine", None),
        ("POST", "protocols/mine/publish", None),
        ("POST", "protocols/mine/share", {"users": ["bob"]}),
        ("POST", "protocols/mine/transfer", {"user": "bob"}),
        ("POST", "jobs", {"protocol": "mine"}),
        ("POST", "jobs?dry_run=true", {"protocol": "mine"}),
    ]
    for method, path, body in calls:
        answer = bob_api(method, path, json=body)
        assert (answer.status_code, answer.json["code"]) == (404, "unknown_protocol"), path
        assert answer.json["detail"] == missing["detail"].replace("none", "mine")
    tree = {"tree": {"parallel": [{"task": "a", "protocol": "mine", "sweep": {"list": [{}, {}]}}]}}
    faults = bob_api("POST", "jobs", json=tree).json["errors"]
    assert [fault["code"] for fault in faults] == ["unknown_protocol"]


def test_sharing_publishing_and_taking_back(
    ada_api: Any, bob_api: Any, bob: User, sessions: sessionmaker[Session]
) -> None:
    with sessions.begin() as db:
        db.add(Group(name="wet-lab"))
        db.flush()
        db.execute(update(User).where(User.id == bob.id).values(group_name="wet-lab"))
    send(ada_api, archive())
    for body in ({"users": ["bob"]}, {"groups": ["wet-lab"]}):
        shared = ada_api("POST", "protocols/mine/share", json=body).json
        assert shared["visibility"] == "shared"
        assert shared["shared_with"] == {"users": [], "groups": []} | body
        assert names(bob_api) == ["mine"]
        seen = bob_api("GET", "protocols/mine").json
        assert (seen["may_change"], seen["shared_with"]) == (False, None)
        assert bob_api("POST", "jobs", json={"protocol": "mine"}).status_code == 201
        assert bob_api("POST", "protocols/mine/publish").status_code == 403
        assert ada_api("POST", "protocols/mine/unshare", json=body).json["visibility"] == "private"
        assert names(bob_api) == []
    assert ada_api("POST", "protocols/mine/publish").json["visibility"] == "public"
    assert names(bob_api) == ["mine"]
    assert ada_api("POST", "protocols/mine/withdraw").json["visibility"] == "private"
    assert names(bob_api) == []
    unknown = ada_api("POST", "protocols/mine/share", json={"users": ["nobody"]})
    assert (unknown.status_code, unknown.json["code"]) == (404, "not_found")


def test_a_job_outlives_the_right_to_its_protocol(ada_api: Any, bob_api: Any) -> None:
    send(ada_api, archive())
    ada_api("POST", "protocols/mine/share", json={"users": ["bob"]})
    job = bob_api("POST", "jobs", json={"protocol": "mine"}).json
    ada_api("POST", "protocols/mine/unshare", json={"users": ["bob"]})
    kept = bob_api("GET", f"jobs/{job['id']}").json
    assert kept["tasks"][0]["protocol"] == "mine"
    assert bob_api("GET", f"tasks/{job['tasks'][0]['id']}/provenance").status_code == 200
    again = bob_api("POST", f"jobs/{job['id']}/resubmit", json={"changes": {}})
    assert (again.status_code, again.json["code"]) == (404, "unknown_protocol")


def test_a_new_owner(ada_api: Any, bob_api: Any, bob: User, sessions: sessionmaker[Session]) -> None:
    send(ada_api, archive())
    given = ada_api("POST", "protocols/mine/transfer", json={"user": "bob"}).json
    assert (given["owner"], given["may_change"]) == ("bob", False)
    assert names(ada_api) == []
    assert send(bob_api, archive(version="1.1.0")).status_code == 201
    with sessions.begin() as db:
        db.execute(update(User).where(User.name == "ada").values(max_stored_bytes=10))
    refused = bob_api("POST", "protocols/mine/transfer", json={"user": "ada"})
    assert (refused.status_code, refused.json["code"]) == (409, "quota_exceeded")
    assert bob_api("GET", "protocols/mine").json["owner"] == "bob"


def test_a_name_belongs_to_one(ada_api: Any, bob_api: Any, protocols: None) -> None:
    send(ada_api, archive())
    for name in ("mine", "greet"):  # somebody else's, and the lab's own
        taken = send(bob_api, archive(name=name, version="9.0.0"))
        assert (taken.status_code, taken.json["code"]) == (409, "name_taken")
    assert [item["version"] for item in ada_api("GET", "protocols/mine/versions").json["items"]] == ["1.0.0"]
    other = send(ada_api, archive(version="2.0.0"), "protocols/other/versions")
    assert (other.status_code, other.json["code"]) == (422, "invalid")
    assert send(ada_api, archive(version="2.0.0"), "protocols/mine/versions").status_code == 201


def test_a_faulty_one_is_told_line_by_line_and_leaves_nothing(ada_api: Any, parts: Services) -> None:
    content = archive(files={"main.py": "print('a')\nprint(\n"}, extra="\nneeds: {cores: none}\nwhat: 1")
    answer = send(ada_api, content)
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_protocol")
    told = {(problem["file"], problem["line"]) for problem in answer.json["problems"]}
    assert {("protocol.yml", 7), ("protocol.yml", 8)} <= told
    assert any(file == "main.py" and line for file, line in told)
    assert names(ada_api) == []
    assert not list(parts.settings.web.protocols.glob("*"))


@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_archives_that_nobody_means_well(ada_api: Any, parts: Services, kind: bytes) -> None:
    buffer = io.BytesIO(archive())
    with tarfile.open(fileobj=buffer, mode="a") as tar:
        bad = tarfile.TarInfo("device")
        bad.type, bad.linkname = kind, "protocol.yml"
        tar.addfile(bad)
    answer = send(ada_api, buffer.getvalue())
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_archive")
    for name in ("../../climbing", "/etc/absolute"):
        answer = send(ada_api, archive(files={name: "x"}))
        assert (answer.status_code, answer.json["code"]) == (422, "invalid_archive")
    assert not list(parts.settings.web.protocols.glob("*"))


def test_a_version_never_changes(ada_api: Any) -> None:
    send(ada_api, archive())
    answer = send(ada_api, archive(files={"main.py": "print('other')\n"}))
    assert (answer.status_code, answer.json["code"]) == (409, "version_changed")


def test_what_is_stored_counts(
    ada_api: Any, user: User, parts: Services, sessions: sessionmaker[Session]
) -> None:
    with sessions.begin() as db:
        db.execute(update(User).where(User.id == user.id).values(max_stored_bytes=20_000))
    assert send(ada_api, archive()).status_code == 201
    large = archive(name="large", files={"noise.txt": "x" * 30_000})
    answer = send(ada_api, large)
    assert (answer.status_code, answer.json["code"]) == (409, "quota_exceeded")
    assert [path.name for path in parts.settings.web.protocols.glob("*")] == ["mine.git"]
    assert names(ada_api) == ["mine"]
    with sessions.begin() as db:
        db.execute(update(User).where(User.id == user.id).values(max_stored_bytes=100))
    assert send(ada_api, archive(version="1.1.0")).json["code"] == "quota_exceeded"
    assert [item["version"] for item in ada_api("GET", "protocols/mine/versions").json["items"]] == ["1.0.0"]


def test_deleting(ada_api: Any, bob_api: Any, parts: Services) -> None:
    send(ada_api, archive())
    ada_api("POST", "protocols/mine/publish")
    assert bob_api("DELETE", "protocols/mine").status_code == 403
    job = bob_api("POST", "jobs", json={"protocol": "mine"}).json
    refused = ada_api("DELETE", "protocols/mine")
    assert (refused.status_code, refused.json["code"]) == (409, "protocol_in_use")
    bob_api("POST", f"jobs/{job['id']}/cancel")
    assert bob_api("DELETE", f"jobs/{job['id']}").status_code == 204
    assert ada_api("DELETE", "protocols/mine").status_code == 204
    assert ada_api("GET", "protocols/mine").status_code == 404
    assert not list(parts.settings.web.protocols.glob("*"))
    assert send(bob_api, archive()).status_code == 201


def test_many_send_the_same_name_at_once(caller: Make, make_user: Callable[..., User]) -> None:
    apis = [caller(make_user(f"user{number}")) for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda api: send(api, archive()).status_code, apis))
    assert sorted(answers) == [201, 409, 409, 409]


def test_search(ada_api: Any) -> None:
    send(ada_api, archive(title="Survival curves"))
    send(ada_api, archive(name="boxes", title="Box plot_s"))
    assert names(ada_api, "?text=SURV+mine") == ["mine"]
    assert names(ada_api, "?text=plot_") == ["boxes"]
    assert names(ada_api, "?text=%25") == []


def test_what_the_admin_imports_is_the_lab_s_and_public(
    ada_api: Any, caller: Make, admin: User, protocols: None, tmp_path: Path
) -> None:
    shown = ada_api("GET", "protocols/greet").json
    assert (shown["owner"], shown["visibility"], shown["may_change"]) == (None, "public", False)
    root = caller(admin)
    assert root("POST", "protocols/greet/withdraw").json["code"] == "invalid"
    root("POST", "protocols/greet/share", json={"users": ["root"]})
    assert root("POST", "protocols/greet/withdraw").json["visibility"] == "shared"
    assert names(ada_api) == []


def test_two_versions_compared(ada_api: Any, bob_api: Any) -> None:
    send(ada_api, archive(files={"old.txt": "a\nb\nc\nd\n", "gone.txt": "x\n"}))
    parameters = "\nparameters:\n  type: object\n  properties: {top: {type: integer, default: 5}}"
    files = {"new.txt": "a\nb\nc\nd\n", "main.py": "print('hello')\nprint('again')\n"}
    send(ada_api, archive(version="1.1.0", title="Yours", files=files, extra=parameters))
    found = ada_api("GET", "protocols/mine/compare?base=1.0.0").json
    assert (found["base"]["version"], found["head"]["version"]) == ("1.0.0", "1.1.0")
    changes = {change["path"]: (change["before"], change["after"]) for change in found["interface"]}
    assert changes["title"] == ("Mine", "Yours")
    assert changes["parameters.properties.top"] == (None, {"type": "integer", "default": 5})
    assert "version" not in changes
    by_path = {file["path"]: file for file in found["files"]}
    assert by_path["new.txt"]["earlier_path"] == "old.txt"
    assert [by_path[name]["status"] for name in ("gone.txt", "main.py", "new.txt")] == [
        "removed",
        "changed",
        "renamed",
    ]
    assert (by_path["main.py"]["added"], by_path["main.py"]["removed"]) == (1, 0)
    assert "+print('again')" in by_path["main.py"]["patch"]
    commit = found["base"]["commit"]
    back = ada_api("GET", f"protocols/mine/compare?base=1.1.0&head={commit[:8]}").json
    assert back["head"]["version"] == "1.0.0"
    same = ada_api("GET", "protocols/mine/compare?base=1.1.0&head=1.1.0").json
    assert (same["interface"], same["files"]) == ([], [])
    assert ada_api("GET", "protocols/mine/compare?base=9").json["code"] == "unknown_version"
    assert bob_api("GET", "protocols/mine/compare?base=1.0.0").json["code"] == "unknown_protocol"


def test_very_much_that_differs_is_cut_off(ada_api: Any) -> None:
    send(ada_api, archive())
    files = {f"part{number}.txt": f"{number} {'x' * 98}\n" * 2000 for number in range(5)}
    send(ada_api, archive(version="1.1.0", files=files))
    found = ada_api("GET", "protocols/mine/compare?base=1.0.0").json
    assert [file["added"] for file in found["files"] if file["status"] == "added"] == [2000] * 5
    assert found["files"][0]["patch"] is not None
    assert [file["patch"] for file in found["files"][-2:]] == [None, None]
