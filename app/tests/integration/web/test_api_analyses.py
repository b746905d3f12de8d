"""Saved settings by the API: kept, opened by their address, run, deleted."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from labfleet.db.models import Job, User

from .conftest import Caller

SETTINGS = {"name": "often used", "protocol": "greet", "parameters": {"who": "saved", "style": "loud"}}


def save(api: Caller, **more: Any) -> dict[str, Any]:
    answer = api("POST", "analyses", json=SETTINGS | more)
    assert answer.status_code == 201, answer.text
    saved: dict[str, Any] = answer.json
    assert answer.headers["Location"] == f"/api/v1/analyses/{saved['id']}"
    return saved


@pytest.fixture
def other(caller: Callable[[User], Caller], make_user: Callable[..., User], api: Caller) -> Caller:
    """The API as somebody else calls it."""
    return caller(make_user("eve"))


def test_what_is_saved_is_told_as_it_was(api: Caller) -> None:
    table = api.upload("mine.csv", b"a\n1\n")["id"]
    saved = save(api, inputs={"table": table}, sweep={"parameters.times": [2, 4]})
    assert saved == {
        **SETTINGS,
        "id": saved["id"],
        "owner": saved["owner"],
        "version": "1.0.0",
        "inputs": {"table": table},
        "sweep": {"parameters.times": [2, 4]},
        "address": f"https://labfleet.test/analyses/{saved['id']}",
        "may_delete": True,
        "created_at": saved["created_at"],
    }
    assert saved["owner"] == api("GET", "me").json["name"]
    assert api("GET", f"analyses/{saved['id']}").json == saved


def test_one_s_own_are_listed_page_by_page(api: Caller, other: Caller) -> None:
    names = ["first", "second", "third"]
    for name in names:
        save(api, name=name)
    mine = save(other, name="of another")
    page = api("GET", "analyses?limit=2").json
    assert [one["name"] for one in page["items"]] == ["third", "second"]
    rest = api("GET", f"analyses?limit=2&after={page['next']}").json
    assert [one["name"] for one in rest["items"]] == ["first"] and rest["next"] is None
    assert len(api("GET", "analyses?protocol=greet").json["items"]) == 3
    assert api("GET", "analyses?protocol=greed").json == {"items": [], "next": None}
    wrong = api("GET", f"analyses?after={mine['id']}")  # which says nothing of what others have
    assert (wrong.status_code, wrong.json["code"]) == (422, "invalid")


def test_whoever_may_see_the_data_opens_them_and_only_the_owner_deletes_them(
    api: Caller, other: Caller
) -> None:
    table = api.upload("mine.csv", b"a\n1\n")["id"]
    plain, closed = save(api), save(api, sweep={"inputs.table": [table]})
    opened = other("GET", f"analyses/{plain['id']}").json
    assert (opened["parameters"], opened["may_delete"]) == (SETTINGS["parameters"], False)
    for method, path in (("GET", ""), ("POST", "/submit"), ("DELETE", "")):
        body = {"json": {}} if method == "POST" else {}
        assert other(method, f"analyses/{closed['id']}{path}", **body).status_code == 404
    assert other("DELETE", f"analyses/{plain['id']}").status_code == 404
    shared = api("POST", f"datasets/{table}/share", json={"users": [opened_by(other)]})
    assert shared.status_code == 200
    assert other("GET", f"analyses/{closed['id']}").status_code == 200
    assert api("DELETE", f"analyses/{plain['id']}").status_code == 204
    assert api("GET", f"analyses/{plain['id']}").status_code == 404


def opened_by(api: Caller) -> str:
    return str(api("GET", "me").json["name"])


def test_a_job_is_submitted_with_other_values(api: Caller, other: Caller) -> None:
    saved = save(api)
    job = api("POST", f"analyses/{saved['id']}/submit", json={}).json
    assert job["label"] == "often used" and job["counts"]["total"] == 1
    assert job["tasks"][0]["parameters"] == {"who": "saved", "style": "loud", "times": 1}
    body = {
        "parameters": {"who": "eve", "times": 3},
        "label": "hers",
        "labels": ["a"],
        "priority": -5,
        "hold": True,
    }
    hers = other("POST", f"analyses/{saved['id']}/submit", json=body).json
    assert hers["tasks"][0]["parameters"] == {"who": "eve", "style": "loud", "times": 3}
    assert (hers["label"], hers["labels"], hers["priority"], hers["held"]) == ("hers", ["a"], -5, True)
    assert hers["owner"] == opened_by(other)


def test_several_values_are_tasks_and_one_takes_their_place(api: Caller) -> None:
    tables = [api.upload(f"{name}.csv", name.encode())["id"] for name in "ab"]
    saved = save(api, sweep={"parameters.times": [2, 4], "inputs.table": tables})
    address = f"analyses/{saved['id']}/submit"
    job = api("POST", address, json={}).json
    found = {(task["parameters"]["times"], task["inputs"]["table"]) for task in job["tasks"]}
    assert found == {(times, table) for times in (2, 4) for table in tables}
    assert {task["parameters"]["who"] for task in job["tasks"]} == {"saved"}
    fewer = api("POST", address, json={"inputs": {"table": tables[1]}}).json
    assert [(task["parameters"]["times"], task["inputs"]["table"]) for task in fewer["tasks"]] == [
        (2, tables[1]),
        (4, tables[1]),
    ]
    single = api("POST", address, json={"inputs": {"table": tables[1]}, "parameters": {"times": 9}}).json
    assert [task["name"] for task in single["tasks"]] == ["task"]


def test_the_same_key_makes_one_job_and_a_dry_run_none(api: Caller, sessions: sessionmaker[Session]) -> None:
    address = f"analyses/{save(api, sweep={'parameters.times': [1, 2, 3]})['id']}/submit"
    dry = api("POST", f"{address}?dry_run=true", json={})
    assert (dry.status_code, dry.json["tasks"], dry.json["protocols"]) == (200, 3, ["greet"])
    headers = {"Idempotency-Key": "once"}
    made = [api("POST", address, json={}, headers=headers).json["id"] for _ in range(2)]
    assert made[0] == made[1]
    with sessions() as db:
        assert db.scalar(select(func.count()).select_from(Job)) == 1


@pytest.mark.parametrize(
    ("more", "status", "code"),
    [
        ({"protocol": "greed"}, 404, "unknown_protocol"),
        ({"version": "9.9.9"}, 404, "unknown_version"),
        ({"inputs": {"table": str(uuid.UUID(int=1))}}, 404, "unknown_dataset"),
        ({"sweep": {"inputs.table": ["x"]}}, 404, "unknown_dataset"),
        ({"sweep": {"times": [1]}}, 422, "invalid"),
        ({"sweep": {"parameters.times": []}}, 422, "invalid"),
        ({"name": ""}, 422, "invalid"),
        ({"owner": "eve"}, 422, "invalid"),
    ],
)
def test_what_cannot_be_kept_is_refused(api: Caller, more: dict[str, Any], status: int, code: str) -> None:
    answer = api("POST", "analyses", json=SETTINGS | more)
    assert (answer.status_code, answer.json["code"]) == (status, code)
    assert api("GET", "analyses").json["items"] == []


def test_values_that_do_not_fit_are_told_when_they_are_run(api: Caller) -> None:
    saved = save(api, parameters={"times": 77})
    answer = api("POST", f"analyses/{saved['id']}/submit", json={})
    assert answer.status_code == 422 and "77" in answer.text
    assert api("GET", "jobs").json["items"] == []
