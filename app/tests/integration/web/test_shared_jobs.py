"""Jobs that are shared: who sees what of them by every address there is, and that nobody else changes any."""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from apiflask import APIFlask
from flask.testing import FlaskClient
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker
from werkzeug.routing import Rule
from werkzeug.test import TestResponse

from labfleet.db.models import Job, User
from labfleet.jobs import quotas
from labfleet.jobs.visible import Whose
from labfleet.users import service as users

from .conftest import PASSWORD, Caller

Sessions = sessionmaker[Session]
BASE = {"base_url": "https://labfleet.test"}
SECRET = "only-the-owner-may-read-this"
CONTENT = b"name,value\nnever,downloaded\n"
FILES = {
    "counts.csv": ("table", "counts", "measure,value\nhamming,1\n"),
    "trace.json": ("array", "trace", "[1, 2]"),
    "net.csv": ("network", "net", "source,target,weight\na,b,1\n"),
}
# What is the owner's alone although it is only looked at.
OWNERS = {"/api/v1/jobs/<uuid:job>/deliveries"}
# The picture and the lines of an artifact are there for one that has them.
FITTING = {"drawing": "net.csv", "series": "trace.json"}


def in_browser(app: APIFlask, name: str) -> tuple[FlaskClient, str]:
    """A browser in which somebody is signed in, and the token of its forms."""
    browser = app.test_client()
    page = browser.get("/sign-in", **BASE).text
    form = {"user": name, "password": PASSWORD, "csrf_token": csrf(page)}
    assert browser.post("/sign-in", data=form, **BASE).status_code == 303
    return browser, csrf(browser.get("/profile", **BASE).text)


def csrf(page: str) -> str:
    found = re.search(r'name="csrf_token" value="([^"]+)"', page)
    assert found
    return found[1]


@dataclass
class Person:
    """Asks the API and the pages."""

    api: Caller
    browser: FlaskClient
    csrf: str

    def ask(self, method: str, path: str) -> TestResponse:
        if path.startswith("/api/v1/"):
            body: dict[str, Any] = {"json": {}} if method in {"POST", "PATCH", "PUT"} else {}
            return self.api(method, path.removeprefix("/api/v1/"), **body)
        form = {"data": {"csrf_token": self.csrf, "label": "taken"}} if method == "POST" else {}
        return self.browser.open(path, method=method, **form, **BASE)


@pytest.fixture
def person(
    app: APIFlask, sessions: Sessions, protocols: None, caller: Callable[[User], Caller]
) -> Callable[[str], Person]:
    """`person(name)`: a user with a password."""

    def make(name: str) -> Person:
        with sessions.begin() as db:
            user = users.add_user(db, name, PASSWORD)
        return Person(caller(user), *in_browser(app, name))

    return make


@dataclass
class Ended:
    """A job of ada's that has ended: what it is called, and who may see it."""

    owner: Person
    job: str
    task: str
    dataset: str
    artifacts: dict[str, str]

    def change(self, verb: str, **whom: list[str]) -> None:
        assert self.owner.api("POST", f"jobs/{self.job}/{verb}", json=whom or None).status_code == 200


@pytest.fixture
def ended(person: Callable[[str], Person], attempt: Any, sessions: Sessions) -> Ended:
    """A job with a note, a webhook and private data, and results of each kind."""
    owner = person("ada")
    dataset = owner.api.upload("private.csv", CONTENT)["id"]
    made = owner.api.submit(label="Shown", note=SECRET, inputs={"table": dataset})
    with sessions.begin() as db:
        row = db.scalars(select(Job)).one()
        # As where webhooks and mail are on.
        row.webhook, row.mail = f"https://{SECRET}.example.org", True
        row.spec = {**row.spec, "webhook": row.webhook, "mail": True}
    (task,) = [task["id"] for task in made["tasks"]]
    worker = attempt(task)
    assert worker("POST", "claim", json={"worker": "worker-1", "claim_id": "c"}).status_code == 200
    for name, (kind, output, content) in FILES.items():
        headers = {"X-Content-SHA256": hashlib.sha256(content.encode()).hexdigest()}
        path = f"artifacts/{name}?kind={kind}&output={output}"
        assert worker("PUT", path, data=content.encode(), headers=headers).status_code < 300
    assert worker("POST", "finish", json={"outcome": "success", "exit_code": 0}).status_code == 200
    found = owner.api("GET", f"jobs/{made['id']}/results").json["items"]
    return Ended(owner, made["id"], task, dataset, {item["name"]: item["id"] for item in found})


def of_jobs(app: APIFlask) -> list[Rule]:
    """The addresses that name a job, a task or an artifact, but those that workers ask."""
    return [
        rule
        for rule in app.url_map.iter_rules()
        if rule.arguments & {"job", "task", "artifact"} and not rule.rule.startswith("/api/v1/attempts/")
    ]


def addresses(rule: Rule, ended: Ended) -> Iterator[str]:
    """The rule's addresses for this job: one, or one for each verb."""
    name = FITTING.get(rule.rule.rpartition("/")[2], "counts.csv")
    values = {"job": ended.job, "task": ended.task, "artifact": ended.artifacts[name]}
    path = re.sub(r"<uuid:(job|task|artifact)>", lambda found: values[found[1]], rule.rule)
    verbs = re.search(r"<any\(([^)]*)\):verb>", path)
    for verb in verbs[1].split(",") if verbs else [""]:
        yield path.replace(verbs[0], verb.strip(" '")) if verbs else path
    assert "<" not in (path.replace(verbs[0], "") if verbs else path), rule


SHARED = {
    "by name": ("share", {"users": ["eve"]}),
    "by group": ("share", {"groups": ["crew"]}),
    "with all": ("publish", {}),
}


@pytest.fixture(params=list(SHARED))
def shared(request: Any, ended: Ended, eve: Person) -> Ended:
    """The job, shared with eve in one of the ways there are."""
    verb, whom = SHARED[request.param]
    ended.change(verb, **whom)
    return ended


@pytest.fixture
def eve(person: Callable[[str], Person], sessions: Sessions) -> Person:
    """Somebody of the group `crew`."""
    found = person("eve")
    with sessions.begin() as db:
        quotas.put_group(db, "crew", {})
        quotas.set_user(db, "eve", {"group": "crew"})
    return found


def test_everything_that_is_looked_at(app: APIFlask, shared: Ended, eve: Person) -> None:
    """Whom it is shared with sees it by every address, as its owner does, but for what is his alone."""
    asked = [
        (rule.rule, path)
        for rule in of_jobs(app)
        if "GET" in (rule.methods or ())
        for path in addresses(rule, shared)
    ]
    assert len(asked) > 25
    for rule, path in asked:
        mine, hers = (one.ask("GET", path) for one in (shared.owner, eve))
        assert mine.status_code == 200, path
        assert hers.status_code == (403 if rule in OWNERS else 200), path
        assert SECRET.encode() not in hers.data, path


def test_strangers_see_nothing(app: APIFlask, ended: Ended, eve: Person, person: Any) -> None:
    """Of a job that is theirs alone, or shared with others, nobody can tell that it is there."""
    ended.change("share", users=["eve"])
    mallory = person("mallory")
    for rule in of_jobs(app):
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            for path in addresses(rule, ended):
                assert mallory.ask(method, path).status_code == 404, (method, path)


def test_nobody_else_changes_it(app: APIFlask, shared: Ended, eve: Person, sessions: Sessions) -> None:
    """Every address that does something is the owner's, however the job is shared."""
    before = shared.owner.api("GET", f"jobs/{shared.job}").json
    asked = [
        (method, path)
        for rule in of_jobs(app)
        for method in (rule.methods or set()) - {"GET", "HEAD", "OPTIONS"}
        for path in addresses(rule, shared)
    ]
    assert len(asked) >= 30
    for method, path in asked:
        assert eve.ask(method, path).status_code == 403, (method, path)
    bulk = {"verb": "delete", "filter": {}}
    assert eve.api("POST", "jobs/bulk", json=bulk).json["matched"] == 0
    wider = {"verb": "delete", "filter": {"whose": "all"}}
    assert eve.api("POST", "jobs/bulk", json=wider).status_code == 422
    assert shared.owner.api("GET", f"jobs/{shared.job}").json == before
    with sessions() as db:
        assert len(db.scalars(select(Job)).all()) == 1


def test_what_is_taken_back_is_gone_at_once(ended: Ended, eve: Person, sessions: Sessions) -> None:
    def status() -> int:
        return eve.ask("GET", f"/api/v1/tasks/{ended.task}/log").status_code

    ended.change("share", users=["eve"], groups=["crew"])
    ended.change("publish")
    ended.change("unshare", users=["eve"])
    ended.change("withdraw")
    assert status() == 200  # by the group
    with sessions.begin() as db:
        quotas.set_user(db, "eve", {"group": None})
    assert status() == 404
    with sessions.begin() as db:
        quotas.set_user(db, "eve", {"group": "crew"})
    assert status() == 200
    ended.change("unshare", groups=["crew"])
    assert status() == 404


def crate(person: Person, job: str) -> dict[str, bytes]:
    """The files of a job's crate."""
    with zipfile.ZipFile(io.BytesIO(person.api("GET", f"jobs/{job}/crate").data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_private_data_do_not_come_out_with_a_job(shared: Ended, eve: Person) -> None:
    """Of a dataset that one may not see, a job that took it tells name, size and SHA-256."""
    task, dataset = shared.task, shared.dataset
    (told,) = eve.api("GET", f"tasks/{task}/provenance").json["inputs"]
    assert told["name"] == "private.csv" and told["sha256"] == hashlib.sha256(CONTENT).hexdigest()
    assert eve.api("GET", f"datasets/{dataset}/content").status_code == 404
    page = eve.ask("GET", f"/jobs/{shared.job}").text
    assert "private.csv" in page and "not shared with you" in page and f"/datasets/{dataset}" not in page
    assert f"/datasets/{dataset}/content" in shared.owner.ask("GET", f"/jobs/{shared.job}").text
    form = eve.ask("GET", f"/jobs/new?protocol=greet&like={shared.job}")
    assert form.status_code == 200 and dataset not in form.text
    again = eve.api("GET", f"jobs/{shared.job}/spec").json
    assert eve.api("POST", "jobs", json=again).status_code in {404, 422}
    for who, has in ((eve, False), (shared.owner, True)):
        files = crate(who, shared.job)
        assert (CONTENT in files.values()) == has
        assert (SECRET.encode() in b"".join(files.values())) == has
        graph = json.loads(files["ro-crate-metadata.json"])["@graph"]
        (entity,) = [each for each in graph if each.get("name") == "private.csv"]
        assert entity["sha256"] == told["sha256"] and (entity["@id"] in files) == has
    # It is another thing where the data are shared, too.
    shared.owner.api("POST", f"datasets/{dataset}/share", json={"users": ["eve"]})
    assert f"/datasets/{dataset}/content" in eve.ask("GET", f"/jobs/{shared.job}").text
    assert CONTENT in crate(eve, shared.job).values()


def test_the_owner_s_words_are_not_found(shared: Ended, eve: Person) -> None:
    """Neither read nor looked through: who searches for a word of the note does not find the job by it."""
    word = SECRET.split("-", maxsplit=1)[0]
    for person, found in ((eve, 0), (shared.owner, 1)):
        for path in (f"jobs?whose=all&text={word}", f"search?text={word}&kind=result"):
            assert len(person.api("GET", path).json["items"]) == found, path
        assert len(person.api("GET", "jobs?whose=all&text=shown").json["items"]) == 1
        (result,) = person.api("GET", "search?text=shown&kind=result").json["items"]
        assert bool(result["text"]) == bool(found)


def test_lists_are_one_s_own_unless_asked(ended: Ended, eve: Person, person: Any) -> None:
    mine = eve.api.submit(label="Mine")["id"]
    ended.change("share", users=["eve"])
    public = ended.owner.api.submit(label="Public")["id"]
    assert ended.owner.api("POST", f"jobs/{public}/publish").status_code == 200

    def found(who: Person, whose: Whose | None) -> list[str]:
        query = f"?whose={whose}" if whose else ""
        listed = who.api("GET", f"jobs{query}").json["items"]
        page = who.ask("GET", f"/jobs{query}").text
        assert re.findall(r'<span class="what"><a href="/jobs/([^"]+)"', page) == [
            job["id"] for job in listed
        ]
        return [job["id"] for job in listed]

    assert found(eve, None) == found(eve, Whose.MINE) == [mine]
    assert found(eve, Whose.SHARED) == [ended.job]
    assert found(eve, Whose.PUBLIC) == [public]
    assert found(eve, Whose.ALL) == [public, mine, ended.job]
    assert found(ended.owner, None) == [public, ended.job]
    assert found(ended.owner, Whose.SHARED) == []
    first = eve.api("GET", "jobs?whose=all&limit=2").json
    second = eve.api("GET", f"jobs?whose=all&limit=2&after={first['next']}").json
    assert [job["id"] for job in first["items"] + second["items"]] == [public, mine, ended.job]
    mallory = person("mallory")
    assert found(mallory, Whose.ALL) == found(mallory, Whose.PUBLIC) == [public]
    home = eve.ask("GET", "/").text
    assert mine in home and public not in home and ended.job not in home


def test_an_admin_s_lists(ended: Ended, app: APIFlask, sessions: Sessions, caller: Any) -> None:
    with sessions.begin() as db:
        root = users.add_user(db, "root", PASSWORD, is_admin=True)
    api = caller(root)
    counts = {whose: len(api("GET", f"jobs?whose={whose}").json["items"]) for whose in Whose}
    assert counts == {Whose.MINE: 0, Whose.SHARED: 0, Whose.PUBLIC: 0, Whose.ALL: 1}
    assert len(api("GET", "jobs").json["items"]) == 1
    shown = api("GET", f"jobs/{ended.job}").json
    assert shown["note"] == SECRET and shown["may_change"]


def test_what_is_told_of_the_sharing(ended: Ended, eve: Person) -> None:
    """Who may change it reads with whom it is shared; others that it is."""

    def told(who: Person) -> tuple[Any, ...]:
        job = who.api("GET", f"jobs/{ended.job}").json
        return job["visibility"], job["may_change"], job["shared_with"]

    assert told(ended.owner) == ("private", True, {"users": [], "groups": []})
    ended.change("share", users=["eve", "eve", "ada"], groups=["crew"])
    assert told(ended.owner) == ("shared", True, {"users": ["eve"], "groups": ["crew"]})
    assert told(eve) == ("shared", False, None)
    ended.change("publish")
    assert told(eve) == ("public", False, None)
    for wrong in ({"users": ["nobody"]}, {"groups": ["none"]}):
        assert ended.owner.api("POST", f"jobs/{ended.job}/share", json=wrong).status_code == 404


def test_the_page_shares_and_takes_back(ended: Ended, eve: Person) -> None:
    def save(**form: str) -> TestResponse:
        data = {"csrf_token": ended.owner.csrf, **form}
        return ended.owner.browser.post(f"/jobs/{ended.job}/sharing", data=data, **BASE)

    assert "Only you and admins see it" in ended.owner.ask("GET", f"/jobs/{ended.job}").text
    assert save(users="eve, ", groups="crew", public="true").status_code == 303
    assert "Everybody in the lab sees it" in ended.owner.ask("GET", f"/jobs/{ended.job}").text
    assert save(users="eve").status_code == 303
    page = ended.owner.ask("GET", f"/jobs/{ended.job}").text
    assert "Shared with eve." in page and '<span class="word">shared</span>' in page
    hers = eve.ask("GET", f"/jobs/{ended.job}").text
    assert "by ada" in hers and "For whom" not in hers and f'action="/jobs/{ended.job}' not in hers
    wrong = save(users="nobody")
    assert wrong.status_code == 404 and "no user" in wrong.text.lower()
    assert eve.ask("GET", f"/jobs/{ended.job}").status_code == 200  # nothing of it was kept
    assert save().status_code == 303
    assert eve.ask("GET", f"/jobs/{ended.job}").status_code == 404


def test_the_matrix_has_variants(ended: Ended, eve: Person, attempt: Any) -> None:
    """A cell is the latest run of those that are chosen, and opens that one."""
    ended.owner.api("POST", f"datasets/{ended.dataset}/publish")
    ended.change("share", users=["eve"])
    mine = eve.api.submit(inputs={"table": ended.dataset})["tasks"][0]["id"]
    public = ended.owner.api.submit(inputs={"table": ended.dataset})
    running = public["tasks"][0]["id"]
    claimed = attempt(running)("POST", "claim", json={"worker": "worker-1", "claim_id": "d"})
    assert claimed.status_code == 200
    assert ended.owner.api("POST", f"jobs/{public['id']}/publish").status_code == 200
    cells = {
        "mine": ("q", mine),
        "shared": ("s", ended.task),
        "public": ("r", running),
        "all": ("r", running),
    }
    for whose, (letter, task) in cells.items():
        page = eve.ask("GET", f"/matrix?whose={whose}").text
        (line,) = re.findall(r'<tr data-name="greet"><th>Greeting<td><code>([^<]*)</code>', page)
        assert line == letter, whose
        assert eve.ask("GET", f"/matrix/states?whose={whose}").text.split("\n")[1] == letter
        cell = f"whose={whose}&cell=greet:{ended.dataset}"
        assert eve.ask("GET", f"/matrix/cell?{cell}").headers["Location"] == f"/tasks/{task}"
        assert eve.ask("GET", f"/matrix/compare?{cell}").status_code == 200
    assert "hamming" in eve.ask("GET", f"/matrix/compare?whose=shared&cell=greet:{ended.dataset}").text
    assert "hamming" not in eve.ask("GET", f"/matrix/compare?cell=greet:{ended.dataset}").text
    assert eve.ask("GET", "/matrix?whose=nobody").status_code == 422
    # Without the data there is no cell, whoever shares the job.
    ended.owner.api("POST", f"datasets/{ended.dataset}/withdraw")
    assert eve.ask("GET", f"/matrix/cell?whose=all&cell=greet:{ended.dataset}").status_code == 404


def test_a_quota_of_the_owner_is_not_told(
    ended: Ended, eve: Person, attempt: Any, make_worker: Any, sessions: Sessions
) -> None:
    make_worker()
    with sessions.begin() as db:
        quotas.set_user(db, "ada", {"max_running": 1})
    first, second = ended.owner.api.submit(), ended.owner.api.submit()
    worker = attempt(first["tasks"][0]["id"])
    assert worker("POST", "claim", json={"worker": "w1", "claim_id": "d"}).status_code == 200
    assert ended.owner.api("POST", f"jobs/{second['id']}/publish").status_code == 200
    for who, told in ((ended.owner, True), (eve, False)):
        reason = who.api("GET", f"jobs/{second['id']}").json["tasks"][0]["reason"]
        (waiting,) = who.api("GET", f"jobs/{second['id']}/queue").json["items"]
        assert reason["code"] == waiting["reason"]["code"] == "quota_running"
        assert ("quota" in reason["message"]) == ("quota" in waiting["reason"]["message"]) == told
