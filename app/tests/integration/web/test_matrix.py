"""The matrix: what was run on what, running what is chosen, comparing what came out."""

from __future__ import annotations

import hashlib
import html
import re
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from labfleet.db.models import Task, User

PASSWORD = "correct horse battery"
BASE = {"base_url": "https://labfleet.test"}


def get(browser: FlaskClient, path: str, status: int = 200) -> str:
    answer = browser.get(path, **BASE)
    assert answer.status_code == status, answer.text
    return answer.text


def token(page: str) -> str:
    found = re.search(r'name="csrf_token" value="([^"]+)"', page)
    assert found
    return found[1]


@pytest.fixture
def signed_in(browser: FlaskClient, ada: User, protocols: None) -> FlaskClient:
    form = {"user": "ada", "password": PASSWORD, "csrf_token": token(get(browser, "/sign-in"))}
    assert browser.post("/sign-in", data=form, **BASE).status_code == 303
    return browser


def finish(attempt: Any, task: str, outcome: str, values: str = "") -> None:
    worker = attempt(task)
    assert worker("POST", "claim", json={"worker": "worker-1", "claim_id": "c"}).status_code == 200
    files = (
        {"counts.csv": ("table", "counts", values), "a.json": ("array", "trace", "[1, 2]")} if values else {}
    )
    for name, (kind, output, content) in files.items():
        headers = {"X-Content-SHA256": hashlib.sha256(content.encode()).hexdigest()}
        worker("PUT", f"artifacts/{name}?kind={kind}&output={output}", data=content.encode(), headers=headers)
    failure = {"failure": "user"} if outcome == "failed" else {}
    assert worker("POST", "finish", json={"outcome": outcome, "exit_code": 0, **failure}).status_code == 200


@pytest.fixture
def data(caller: Any, ada: User, signed_in: FlaskClient) -> dict[str, str]:
    """Three datasets of ada's, by name."""
    return {name: caller(ada).upload(name, name.encode())["id"] for name in ("a.csv", "b.csv", "c.csv")}


def letters(page: str) -> str:
    (line,) = re.findall(r'<tr data-name="greet"><th>Greeting<td><code>([^<]*)</code>', page)
    return str(line)


def test_an_empty_matrix_says_what_to_do(signed_in: FlaskClient) -> None:
    assert "Upload datasets" in get(signed_in, "/matrix")


def test_a_cell_shows_the_latest_run_of_mine(
    signed_in: FlaskClient, caller: Any, ada: User, make_user: Any, attempt: Any, data: dict[str, str]
) -> None:
    api = caller(ada)
    first = api.submit(inputs={"table": data["a.csv"]})["tasks"][0]["id"]
    finish(attempt, first, "failed")
    assert letters(get(signed_in, "/matrix")) == "..f"  # the newest dataset comes first
    second = api.submit(inputs={"table": data["a.csv"]})["tasks"][0]["id"]
    api.submit(inputs={"table": data["b.csv"]})
    api.submit()  # without data it is in no cell
    page = get(signed_in, "/matrix")
    assert letters(page) == ".qq" and data["a.csv"] in page
    assert letters(get(signed_in, "/matrix?data=B&protocols=greet")) == "q"
    assert "Nothing fits" in get(signed_in, "/matrix?protocols=nothing")
    finish(attempt, second, "success")
    (seen,) = re.findall(r'data-seen="(\w+)"', page)
    tag, line = get(signed_in, f"/matrix/states?seen={seen}").split("\n")
    assert line == ".qs"
    assert signed_in.get(f"/matrix/states?seen={tag}", **BASE).status_code == 204
    opened = signed_in.get(f"/matrix/cell?cell=greet:{data['a.csv']}", **BASE)
    assert opened.headers["Location"] == f"/tasks/{second}"
    empty = signed_in.get(f"/matrix/cell?cell=greet:{data['c.csv']}", **BASE)
    assert empty.headers["Location"] == "/jobs/new?protocol=greet"


def test_chosen_cells_run_as_one_job(
    signed_in: FlaskClient, sessions: sessionmaker[Session], data: dict[str, str]
) -> None:
    csrf = token(get(signed_in, "/jobs"))
    cells = " ".join(f"greet:{data[name]}" for name in ("a.csv", "c.csv"))
    answer = signed_in.post("/matrix/run", data={"csrf_token": csrf, "cells": cells}, **BASE)
    assert answer.status_code == 303, answer.text
    page = get(signed_in, answer.headers["Location"])
    assert letters(page) == "q.q" and "Follow the job" in page
    with sessions() as db:
        assert {task.inputs["table"] for task in db.scalars(select(Task))} == {data["a.csv"], data["c.csv"]}
    for wrong, status in (("", 422), ("greet:x", 404), ("none:x", 404), ("greet:x " * 2001, 422)):
        sent = signed_in.post("/matrix/run", data={"csrf_token": csrf, "cells": wrong}, **BASE)
        assert sent.status_code == status, wrong


def test_results_are_compared(
    signed_in: FlaskClient, caller: Any, ada: User, attempt: Any, data: dict[str, str]
) -> None:
    for name, value in (("a.csv", 1), ("b.csv", 2)):
        task = caller(ada).submit(inputs={"table": data[name]})["tasks"][0]["id"]
        finish(attempt, task, "success", f"measure,value\nhamming,{value}\n")
    cells = "&".join(f"cell=greet:{data[name]}" for name in data)
    page = get(signed_in, f"/matrix/compare?{cells}")
    assert "2 experiments side by side" in page  # the third has not run
    assert re.search(r'<th scope="row">hamming</th><td class="num">1</td><td class="num">2</td>', page)
    (series,) = re.findall(r'data-series="([^"]+)"', page)
    assert [line.split(" ", 1)[1] for line in html.unescape(series).splitlines()] == ["a.csv", "b.csv"]
    assert "None of these was run yet" in get(signed_in, f"/matrix/compare?cell=greet:{data['c.csv']}")


def test_data_of_others_are_not_there(signed_in: FlaskClient, caller: Any, make_user: Any) -> None:
    foreign = caller(make_user("eve")).upload("secret.csv", b"x")["id"]
    assert "secret.csv" not in get(signed_in, "/matrix")
    get(signed_in, f"/matrix/cell?cell=greet:{foreign}", 404)
    get(signed_in, f"/matrix/compare?cell=greet:{foreign}", 404)
    get(signed_in, "/matrix/cell", 422)
