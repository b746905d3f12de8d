"""The form of a new job: sweeps, several datasets, examples, saved settings."""

from __future__ import annotations

import html
import io
import re
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from labfleet.db.models import Dataset, Job, Task, User
from labfleet.protocols.service import import_protocol
from labfleet.web.services import Services

PASSWORD = "correct horse battery"
BASE = {"base_url": "https://labfleet.test"}
FORM = "/jobs/new?protocol=greet"
NEEDY = """
labfleet: 1
name: needy
version: 1.0.0
title: Needs a table
key: python
command: [python3, main.py]
parameters:
  type: object
  properties: {rows: {type: integer, default: 2}}
inputs:
  table: {title: Table, formats: [csv]}
  names: {title: Names, formats: [txt]}
"""


def get(browser: FlaskClient, path: str, status: int = 200) -> str:
    answer = browser.get(path, **BASE)
    assert answer.status_code == status, answer.text
    return answer.text


def post(browser: FlaskClient, path: str, **form: Any) -> Any:
    found = re.search(r'name="csrf_token" value="([^"]+)"', get(browser, "/jobs"))
    assert found
    return browser.post(path, data={"csrf_token": found[1], **form}, **BASE)


@pytest.fixture
def signed_in(browser: FlaskClient, ada: User, protocols: None) -> FlaskClient:
    page = browser.get("/sign-in", **BASE).text
    found = re.search(r'name="csrf_token" value="([^"]+)"', page)
    assert found
    form = {"user": "ada", "password": PASSWORD, "csrf_token": found[1]}
    assert browser.post("/sign-in", data=form, **BASE).status_code == 303
    return browser


def tasks(sessions: sessionmaker[Session], answer: Any) -> list[Task]:
    assert answer.status_code == 303, answer.text
    job = answer.headers["Location"].rsplit("/", 1)[1]
    with sessions() as db:
        return list(db.scalars(select(Task).where(Task.job_id == job).order_by(Task.sequence)))


def test_several_values_are_combined_into_tasks(
    signed_in: FlaskClient, sessions: sessionmaker[Session]
) -> None:
    form = {"p-who": "not used", "s-who": "you, me", "p-times": "9", "s-times": "1:3:1", "p-style": "loud"}
    found = tasks(sessions, post(signed_in, FORM, **form))
    points = [(task.parameters["who"], task.parameters["times"]) for task in found]
    assert points == [(who, times) for who in ("you", "me") for times in (1, 2, 3)]
    assert {task.parameters["style"] for task in found} == {"loud"}


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ({"s-times": "1, 99"}, "99 is greater than the maximum of 9"),
        ({"s-times": "1, x"}, "no whole number"),
        ({"m-table": ["no-uuid", "another"]}, "neither a dataset"),
    ],
)
def test_a_sweep_that_does_not_fit_is_told_in_the_form(
    signed_in: FlaskClient, sessions: sessionmaker[Session], form: dict[str, Any], told: str
) -> None:
    answer = post(signed_in, FORM, **{"p-who": "kept", **form})
    assert answer.status_code == 422
    assert told in answer.text and 'value="kept"' in answer.text
    with sessions() as db:
        assert db.scalar(select(func.count()).select_from(Job)) == 0


def test_several_files_become_several_tasks(signed_in: FlaskClient, sessions: sessionmaker[Session]) -> None:
    files = [(io.BytesIO(b"a\n1\n"), "one.csv"), (io.BytesIO(b"a\n2\n"), "two.csv")]
    found = tasks(sessions, post(signed_in, FORM, **{"i-table-file": files}))
    with sessions() as db:
        names = {str(dataset.id): dataset.name for dataset in db.scalars(select(Dataset))}
    assert [names[task.inputs["table"]] for task in found] == ["one.csv", "two.csv"]
    chosen = list(names)
    again = tasks(sessions, post(signed_in, FORM, **{"m-table": chosen, "s-times": "1, 2"}))
    assert len(again) == 4
    alone = tasks(sessions, post(signed_in, FORM, **{"m-table": chosen[:1]}))
    assert [task.inputs for task in alone] == [{"table": chosen[0]}]


def test_an_example_runs_on_what_the_protocol_brings(
    signed_in: FlaskClient, sessions: sessionmaker[Session], parts: Services, tmp_path: Path
) -> None:
    tree = tmp_path / "needy"
    tree.mkdir()
    (tree / "protocol.yml").write_text(NEEDY, encoding="utf-8")
    (tree / "main.py").write_text("print()\n", encoding="utf-8")
    (tree / "sample.csv").write_bytes(b"a,b\r\n1,\xff\r\n")
    with sessions.begin() as db:
        import_protocol(db, parts.protocols, tree)
    assert "Try it" not in get(signed_in, "/jobs/new?protocol=needy")  # a slot is left
    (tree / "sample-names.txt").write_text("x\n", encoding="utf-8")
    (tree / "protocol.yml").write_text(NEEDY.replace("1.0.0", "1.0.1"), encoding="utf-8")
    with sessions.begin() as db:
        import_protocol(db, parts.protocols, tree)
    assert "Try it" in get(signed_in, "/jobs/new?protocol=needy")
    for _ in range(2):
        (task,) = tasks(sessions, post(signed_in, "/jobs/example?protocol=needy"))
        assert task.parameters == {"rows": 2}
    with sessions() as db:
        kept = {dataset.name: dataset for dataset in db.scalars(select(Dataset))}
        assert set(kept) == {"needy-sample.csv", "needy-sample-names.txt"}
        assert task.inputs == {
            slot: str(kept[f"needy-sample{end}"].id)
            for slot, end in (("table", ".csv"), ("names", "-names.txt"))
        }
        assert db.scalar(select(func.count()).select_from(Dataset)) == 2  # the second run takes the same ones
    with parts.store.open(kept["needy-sample.csv"].sha256) as file:
        assert file.read() == b"a,b\r\n1,\xff\r\n"


def test_saved_settings_are_opened_again_by_who_may_see_the_data(
    signed_in: FlaskClient, sessions: sessionmaker[Session], app: Any, caller: Any, make_user: Any
) -> None:
    file = (io.BytesIO(b"a\n" + 40_000 * b"1\n"), "mine.csv")  # more than a form without files may have
    form = {"label": "my settings", "p-who": "saved", "s-times": "2, 4", "i-table-file": file}
    address = post(signed_in, "/analyses?protocol=greet", **form).headers["Location"]
    opened = signed_in.get(address, **BASE)
    assert opened.status_code == 303
    page = get(signed_in, opened.headers["Location"])
    assert 'value="saved"' in page and 'name="s-times" value="2, 4"' in page and address in page
    assert re.search(r'<option value="[^"]{36}" selected>mine.csv', page)
    assert "my settings" in get(signed_in, FORM)
    with sessions() as db:
        assert db.scalar(select(func.count()).select_from(Job)) == 0
    plain = post(signed_in, "/analyses?protocol=greet", label="no data").headers["Location"]
    other = app.test_client()
    sign_in_as(other, sessions, "eve")
    get(other, address, 404)
    assert "no data" in html.unescape(get(other, other.get(plain, **BASE).headers["Location"]))
    assert "no data" not in get(other, FORM)
    assert post(other, f"{plain}/delete").status_code == 404
    assert post(signed_in, f"{address}/delete").headers["Location"] == FORM
    get(signed_in, address, 404)
    get(signed_in, "/jobs/new?protocol=greet&analysis=x", 422)


def sign_in_as(browser: FlaskClient, sessions: sessionmaker[Session], name: str) -> None:
    from labfleet.users import service as users

    with sessions.begin() as db:
        users.add_user(db, name, PASSWORD)
    page = browser.get("/sign-in", **BASE).text
    found = re.search(r'name="csrf_token" value="([^"]+)"', page)
    assert found
    form = {"user": name, "password": PASSWORD, "csrf_token": found[1]}
    assert browser.post("/sign-in", data=form, **BASE).status_code == 303
