"""The pages, as a browser without JavaScript meets them."""

from __future__ import annotations

import hashlib
import html
import io
import re
import zipfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from apiflask import APIFlask
from flask.testing import FlaskClient
from sqlalchemy import select

from labfleet.datasets import previews
from labfleet.db.models import Artifact, FleetSample, User
from labfleet.users import service as users
from labfleet.web.services import Services

PASSWORD = "correct horse battery"
BASE = {"base_url": "https://labfleet.test"}


def token(page: str) -> str:
    found = re.search(r'name="csrf_token" value="([^"]+)"', page)
    assert found
    return found[1]


def sign_in(browser: FlaskClient, password: str = PASSWORD, target: str = "/") -> Any:
    page = browser.get("/sign-in", query_string={"next": target}, **BASE).text
    form = {"user": "ada", "password": password, "csrf_token": token(page), "next": target}
    return browser.post("/sign-in", data=form, **BASE)


def get(browser: FlaskClient, path: str, status: int = 200) -> str:
    answer = browser.get(path, **BASE)
    assert answer.status_code == status, answer.text
    return answer.text


@pytest.fixture
def signed_in(browser: FlaskClient, ada: User, protocols: None) -> FlaskClient:
    assert sign_in(browser).status_code == 303
    return browser


def post(browser: FlaskClient, page: str, path: str, **form: Any) -> Any:
    return browser.post(path, data={"csrf_token": token(get(browser, page)), **form}, **BASE)


def submit(browser: FlaskClient, **form: Any) -> str:
    page = "/jobs/new?protocol=greet"
    answer = post(browser, page, page, **form)
    assert answer.status_code == 303, answer.text
    return str(answer.headers["Location"])


@pytest.mark.parametrize(
    "path", ["/", "/jobs", "/datasets", "/workers", "/protocols", "/jobs/new?protocol=greet"]
)
def test_strangers_are_sent_to_sign_in_and_back(browser: FlaskClient, ada: User, path: str) -> None:
    answer = browser.get(path, **BASE)
    assert answer.status_code == 303
    assert answer.headers["Location"].startswith("/sign-in?next=%2F")
    live = browser.get(path, headers={"HX-Request": "true"}, **BASE)
    assert (live.headers["HX-Redirect"], live.data) == ("/sign-in", b"")


def test_the_cookie_is_well_kept(browser: FlaskClient, ada: User) -> None:
    cookie = sign_in(browser).headers["Set-Cookie"]
    assert cookie.startswith("__Host-labfleet=")
    for word in ("Secure", "HttpOnly", "SameSite=Lax", "Path=/"):
        assert word in cookie


def test_a_wrong_password_is_told_and_then_slowed_down(browser: FlaskClient, ada: User) -> None:
    for _ in range(3):
        answer = sign_in(browser, "wrong")
        assert answer.status_code == 401 and "name or the password is wrong" in answer.text
    assert sign_in(browser).status_code == 429
    assert browser.get("/jobs", **BASE).status_code == 303


@pytest.mark.parametrize(
    ("target", "goes"),
    [
        ("/jobs?state=failed", "/jobs?state=failed"),
        ("https://evil.test", "/"),
        ("//evil.test", "/"),
        ("/\\evil", "/"),
    ],
)
def test_after_signing_in_one_stays_on_this_site(
    browser: FlaskClient, ada: User, target: str, goes: str
) -> None:
    assert sign_in(browser, target=target).headers["Location"] == goes


def test_forms_of_other_sites_are_refused(signed_in: FlaskClient) -> None:
    for path in ("/datasets", "/jobs/new?protocol=greet", "/sign-out"):
        assert signed_in.post(path, data={"csrf_token": "guessed"}, **BASE).status_code == 403
    page = get(signed_in, "/datasets")
    foreign = {"Sec-Fetch-Site": "cross-site"}
    answer = signed_in.post("/sign-out", data={"csrf_token": token(page)}, headers=foreign, **BASE)
    assert answer.status_code == 403


def test_signing_out_and_a_new_password_end_the_session(
    signed_in: FlaskClient, app: APIFlask, ada: User, parts: Services
) -> None:
    other = app.test_client()
    sign_in(other)
    assert post(signed_in, "/jobs", "/sign-out").headers["Location"] == "/sign-in"
    assert signed_in.get("/jobs", **BASE).status_code == 303
    assert other.get("/jobs", **BASE).status_code == 200
    with parts.sessions.begin() as db:
        users.change_password(db, ada, "another correct horse")
    assert other.get("/jobs", **BASE).status_code == 303


def test_an_empty_lab_says_how_to_begin(signed_in: FlaskClient) -> None:
    assert "Begin here" in get(signed_in, "/")
    assert "No jobs yet" in get(signed_in, "/jobs")
    assert "No datasets yet" in get(signed_in, "/datasets")
    assert "No worker has reported yet" in get(signed_in, "/workers")
    assert "Greets everybody." in get(signed_in, "/protocols")


def test_home_shows_what_is_mine_and_how_busy_the_fleet_is(
    signed_in: FlaskClient, caller: Any, make_user: Any, make_worker: Any, parts: Services
) -> None:
    caller(make_user("eve")).submit(label="of another")
    submit(signed_in, label="of mine")
    ended = submit(signed_in, label="ended one")
    post(signed_in, ended, f"{ended}/cancel")
    make_worker("w1", slots=4)
    with parts.sessions.begin() as db:
        for hours in (1, 2):
            db.add(
                FleetSample(
                    at=datetime.now(UTC) - timedelta(hours=hours),
                    **{"workers": 1, "slots": 4, "busy": 3, "cores": 2, "load": 1, "queued": 7, "running": 3},
                )
            )
    page = get(signed_in, "/")
    running, _, after = page.partition("Ended lately")
    assert "of mine" in running and "ended one" not in running and "ended one" in after
    assert "of another" not in page and "Begin here" not in page
    assert "<b>0 <small>of 4</small></b>" in page and "Waiting tasks over the last day: at most 7" in page


def test_the_form_is_the_protocols_interface(signed_in: FlaskClient) -> None:
    page = get(signed_in, "/jobs/new?protocol=greet")
    names = re.findall(r'<(?:input|select)[^>]* name="(p-\w+)"', page)
    assert names == ["p-who", "p-times", "p-style"]  # in the author's order
    assert 'name="p-who" value="world"' in page
    assert re.search(
        r'type="number"[^>]*name="p-times"[^>]*value="1"[^>]*step="1"[^>]*min="1"[^>]*max="9"', page
    )
    assert '<option value="plain" selected>' in page
    assert 'name="i-table-file" accept=".csv"' in page


def test_submitting_with_an_upload(signed_in: FlaskClient, parts: Services) -> None:
    file = (io.BytesIO(b"a\n1\n"), "C:/data/mine.csv")
    location = submit(signed_in, label=" my job ", **{"p-times": "3", "i-table-file": file})
    page = get(signed_in, location)
    assert "my job" in page and "mine.csv" in page
    assert "No worker" in page  # it says at once that nobody serves the key
    assert 'hx-get="' in page and "every 2s" in page
    assert "my job" in get(signed_in, "/jobs") and "mine.csv" in get(signed_in, "/datasets")
    assert list(parts.store.tmp.iterdir()) == []
    again = get(signed_in, f"/jobs/new?protocol=greet&like={location.rsplit('/', 1)[1]}")
    assert 'value="my job"' in again and 'name="p-times" value="3"' in again
    assert re.search(r"<option value=\"[^\"]{36}\" selected>mine.csv", again)


def test_a_double_click_makes_one_job(signed_in: FlaskClient) -> None:
    form = {"key": "5f0c", "p-who": "twice"}
    assert submit(signed_in, **form) == submit(signed_in, **form)


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ({"p-times": "99"}, "99 is greater than the maximum of 9"),
        ({"p-times": "many"}, "no whole number"),
        ({"p-style": "rude"}, "Choose one of the list"),
        ({"i-table": "no-uuid"}, "Choose one of the list"),
        ({"i-table": "00000000-0000-0000-0000-000000000000"}, "There is no dataset"),
        ({"label": "x" * 201}, "label"),
        ({"label": "a\x00"}, "NUL"),
        ({"p-times": "9" * 30}, "64 bits"),
    ],
)
def test_what_is_wrong_is_told_in_the_form(signed_in: FlaskClient, form: dict[str, str], told: str) -> None:
    page = "/jobs/new?protocol=greet"
    answer = post(signed_in, page, page, **{"p-who": "kept", **form})
    assert 400 <= answer.status_code < 500
    assert told in answer.text
    assert 'value="kept"' in answer.text
    assert "No jobs yet" in get(signed_in, "/jobs")


def test_uploads(signed_in: FlaskClient, parts: Services) -> None:
    assert post(signed_in, "/datasets", "/datasets", file=(io.BytesIO(b"x"), "a.csv")).status_code == 303
    empty = post(signed_in, "/datasets", "/datasets", file=(io.BytesIO(b""), ""))
    assert empty.status_code == 422 and "No file was chosen" in empty.text
    large = post(signed_in, "/datasets", "/datasets", file=(io.BytesIO(b"x" * 100_001), "a.csv"))
    assert large.status_code == 413 and "larger than the limit" in large.text
    huge = post(signed_in, "/datasets", "/datasets", file=(io.BytesIO(b"x" * 300_000), "a.csv"))
    assert huge.status_code == 413
    assert list(parts.store.tmp.iterdir()) == []


def finish(app: APIFlask, task: str, attempt: Any, **ending: Any) -> None:
    worker = attempt(task)
    assert worker("POST", "claim", json={"worker": "worker-1", "claim_id": "c"}).status_code == 200
    files = {
        "plot.svg": (b"<svg/>", "plot", "plot"),
        "counts.csv": (b"word,count\n<b>bold</b>,12\n", "table", "counts"),
        "greeting.txt": (b"hello <script>alert(1)</script>\n", "text", "greeting"),
    }
    for name, (content, kind, output) in files.items():
        headers = {"X-Content-SHA256": hashlib.sha256(content).hexdigest()}
        worker("PUT", f"artifacts/{name}?kind={kind}&output={output}", data=content, headers=headers)
    worker("PUT", "log?offset=0", data=b"log <script>\n")
    assert worker("POST", "finish", json=ending).status_code == 200


def test_results_are_shown_and_nothing_in_them_runs(
    signed_in: FlaskClient, app: APIFlask, attempt: Any
) -> None:
    location = submit(signed_in)
    task = task_of(signed_in, location)
    finish(app, task, attempt, outcome="success", exit_code=0)
    page = get(signed_in, location)
    assert "every 2s" not in page
    (image,) = re.findall(r'<img src="(/artifacts/[^"]+/content)" alt="A plot" loading="lazy">', page)
    assert '<td>&lt;b&gt;bold&lt;/b&gt;</td><td class="num">12</td>' in page
    assert '<th>count <span class="unit">words</span></th>' in page
    (table,) = re.findall(r'<h3><a href="(/artifacts/[0-9a-f-]+)">Counts</a>', page)
    assert '<span class="unit">words</span>' in get(signed_in, table)
    assert '<span class="unit">in greetings</span>' in get(signed_in, "/jobs/new?protocol=greet")
    assert "count in words" in get(signed_in, "/protocols/greet")
    assert "hello &lt;script&gt;" in page and "log &lt;script&gt;" in page
    assert "<script>alert" not in page
    content = signed_in.get(image, **BASE)
    assert content.headers["Content-Disposition"].startswith("attachment")
    assert content.headers["Content-Security-Policy"].endswith("sandbox")
    log = signed_in.get(f"/tasks/{task}/log", **BASE)
    assert (log.data, log.mimetype) == (b"log <script>\n", "text/plain")


def task_of(browser: FlaskClient, location: str) -> str:
    with browser.application.extensions["labfleet"].sessions() as db:
        from sqlalchemy import text

        job = location.rsplit("/", 1)[1]
        return str(db.scalar(text("SELECT id FROM tasks WHERE job_id = :job"), {"job": job}))


@pytest.mark.parametrize(
    ("ending", "told"),
    [
        (
            {"outcome": "failed", "failure": "user", "exit_code": 1, "message": "no such column"},
            "The analysis failed",
        ),
        ({"outcome": "inapplicable", "message": "no table"}, "does not apply to these data"),
    ],
)
def test_a_failure_says_whose_it_was_and_what_to_do(
    signed_in: FlaskClient, app: APIFlask, attempt: Any, ending: dict[str, Any], told: str
) -> None:
    location = submit(signed_in)
    finish(app, task_of(signed_in, location), attempt, **ending)
    page = get(signed_in, location)
    assert told in page and ending["message"] in page and "Run again" in page


def test_progress_and_cancel(signed_in: FlaskClient, attempt: Any) -> None:
    location = submit(signed_in)
    worker = attempt(task_of(signed_in, location))
    worker("POST", "claim", json={"worker": "worker-1", "claim_id": "c"})
    worker("POST", "heartbeat", json={"progress": 0.42, "progress_text": "Counting"})
    live = get(signed_in, f"{location}/live")
    assert 'value="0.4200"' in live and "Counting" in live and "<html" not in live
    assert post(signed_in, location, f"{location}/cancel").status_code == 303
    assert "Cancelling…" in get(signed_in, location)
    other = submit(signed_in)
    post(signed_in, other, f"{other}/cancel")
    page = get(signed_in, other)
    assert "cancelled" in page and "Waiting for a free worker" not in page


def test_filter_and_pages(signed_in: FlaskClient) -> None:
    for number in range(27):
        submit(signed_in, label=f"job {number:02}")
    page = get(signed_in, "/jobs")
    assert "job 26" in page and "job 01" not in page
    (older,) = re.findall(r'href="(/jobs\?after=[^"]+)"', page)
    assert "job 01" in get(signed_in, older)
    assert "No job here is failed" in get(signed_in, "/jobs?state=failed")
    assert "job 07" in get(signed_in, "/jobs?text=07&protocol=greet&state=")
    found = get(signed_in, "/jobs?text=07&state=queued")
    assert "job 07" in found and "job 08" not in found
    assert 'href="/jobs?text=07&amp;state=failed"' in found  # the words stay when the state changes
    assert "No job here" in get(signed_in, "/jobs?text=nowhere")
    for odd in ("state=odd", "after=x", "colour=red", "limit=0"):
        assert "The address is not right" in get(signed_in, f"/jobs?{odd}", 422)


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/jobs/x",
        "/jobs/00000000-0000-0000-0000-000000000000",
        "/jobs/new?protocol=none",
        "/jobs/new?protocol=greet&version=9",
        "/artifacts/00000000-0000-0000-0000-000000000000/content",
        "/datasets/00000000-0000-0000-0000-000000000000/content",
    ],
)
def test_what_is_not_there_is_told_on_a_page(signed_in: FlaskClient, path: str) -> None:
    page = get(signed_in, path, 404)
    assert "<!doctype html>" in page and "What to do:" in page


def test_others_jobs_are_not_there(signed_in: FlaskClient, caller: Any, make_user: Any) -> None:
    job = caller(make_user("eve")).submit()
    for path in (f"/jobs/{job['id']}", f"/jobs/{job['id']}/live", f"/tasks/{job['tasks'][0]['id']}/log"):
        get(signed_in, path, 404)
    get(signed_in, f"/jobs/new?protocol=greet&like={job['id']}", 404)


def test_a_page_that_shows_all_there_is_to_see_is_not_sent_again(signed_in: FlaskClient) -> None:
    location = submit(signed_in)
    for address in (location, f"/tasks/{task_of(signed_in, location)}"):
        (again,) = re.findall(r'hx-get="([^"]+seen=[0-9a-f]+)"', get(signed_in, address))
        assert signed_in.get(html.unescape(again), **BASE).status_code == 204
    get(signed_in, f"{location}/live?seen=older")


@pytest.fixture
def sweep(caller: Any, ada: User, protocols: None) -> dict[str, Any]:
    """A tree of a first task and a sweep of 250."""
    grid = {"parameters.who": [f"guest {number:03}" for number in range(250)]}
    tree = {
        "sequential": [
            {"task": "first", "protocol": "greet"},
            {"task": "many", "protocol": "greet", "sweep": {"grid": grid}},
        ]
    }
    found: dict[str, Any] = caller(ada)("POST", "jobs", json={"tree": tree, "label": "a tree"}).json
    return found


def test_a_tree_is_shown_page_by_page(signed_in: FlaskClient, sweep: dict[str, Any]) -> None:
    page = get(signed_in, f"/jobs/{sweep['id']}")
    assert "251 tasks" in page and "One after the other" in page and "0 of 250" in page
    assert "who = guest 098" in page and "who = guest 099" not in page
    (more,) = re.findall(r'href="([^"]+)">More', page)
    second = get(signed_in, html.unescape(more))
    assert "who = guest 099" in second and "who = guest 098" not in second
    assert "0 of 250" in second  # it still says where these tasks stand
    assert "No task here is failed" in get(signed_in, f"/jobs/{sweep['id']}?state=failed")
    get(signed_in, f"/jobs/{sweep['id']}?state=odd", 422)
    assert "first" in get(signed_in, f"/jobs/{sweep['id']}/timeline")
    assert "guest 249" in get(signed_in, f"/jobs/{sweep['id']}/request")
    assert "No results yet" in get(signed_in, f"/jobs/{sweep['id']}/results")


def test_the_buttons_of_a_job(signed_in: FlaskClient, sweep: dict[str, Any]) -> None:
    address = f"/jobs/{sweep['id']}"
    assert post(signed_in, address, f"{address}/hold").status_code == 303
    assert "held back" in get(signed_in, address)
    post(signed_in, address, f"{address}/resume")
    post(signed_in, address, f"/tasks/{sweep['tasks'][0]['id']}/cancel")
    page = get(signed_in, address)
    assert "Retry what did not succeed" in page and "Run all of it again" in page and "250 skipped" in page
    assert post(signed_in, address, f"{address}/hold").status_code == 409
    post(signed_in, address, f"{address}/retry")
    assert "251 queued" in get(signed_in, address)
    again = post(signed_in, address, f"{address}/again").headers["Location"]
    assert again != address and "251 queued" in get(signed_in, again)
    post(signed_in, again, f"{again}/cancel")
    assert post(signed_in, again, f"{again}/delete").headers["Location"] == "/jobs"
    get(signed_in, again, 404)


def test_label_and_note_can_be_changed(signed_in: FlaskClient) -> None:
    location = submit(signed_in, label="before")
    answer = post(signed_in, location, f"{location}/words", label="after", note="a <note>")
    assert answer.headers["Location"] == f"{location}/request"
    page = get(signed_in, location)
    assert "after" in page and "a &lt;note&gt;" in page and "before" not in page
    assert post(signed_in, location, f"{location}/words", label="x" * 201).status_code == 422
    assert post(signed_in, location, f"{location}/words", note="a\x00").status_code == 422


def put(worker: Any, name: str, kind: str, content: bytes) -> None:
    headers = {"X-Content-SHA256": hashlib.sha256(content).hexdigest()}
    answer = worker("PUT", f"artifacts/{name}?kind={kind}", data=content, headers=headers)
    assert answer.status_code < 300, answer.text


def test_each_kind_of_result_has_a_page(signed_in: FlaskClient, attempt: Any) -> None:
    location = submit(signed_in, label="kinds")
    worker = attempt(task_of(signed_in, location))
    worker("POST", "claim", json={"worker": "worker-1", "claim_id": "c"})
    put(
        worker,
        "t.csv",
        "table",
        b"name,value\n" + b"".join(b"r%d,%d\n" % (n, n * 7 % 150) for n in range(150)),
    )
    put(worker, "a.json", "array", b'{"t": [0, 1, 2], "v": [3, 2, 1]}')
    put(worker, "n.csv", "network", b"source,target\na,b\n")
    put(worker, "words.txt", "text", b"<b>words</b>")
    put(worker, "odd.bin", "text", b"\x00\x01")
    worker("POST", "finish", json={"outcome": "success", "exit_code": 0})
    page = get(signed_in, location)
    links = re.findall(r'<h3><a href="(/artifacts/[0-9a-f-]+)">([^<]+)</a>', page)
    address = {name: link for link, name in links}
    table = get(signed_in, f"{address['t.csv']}?sort=1&down=1")
    assert 'aria-sort="descending"' in table and table.index('<td class="num">149<') < table.index(">148<")
    assert "Page 1 of 2" in table and "Page 2 of 2" in get(signed_in, f"{address['t.csv']}?sort=1&page=2")
    get(signed_in, f"{address['t.csv']}?sort=x&page=-1")
    assert f'data-series="{address["a.json"]}/series"' in get(signed_in, address["a.json"])
    series = signed_in.get(f"{address['a.json']}/series", **BASE)
    assert series.json == {
        "axis": "t",
        "across": [0, 1, 2],
        "lines": {"v": [3, 2, 1]},
        "every": 1,
        "units": {},
    }
    assert f'src="{address["n.csv"]}/drawing"' in get(signed_in, address["n.csv"])
    drawing = signed_in.get(f"{address['n.csv']}/drawing", **BASE)
    assert drawing.mimetype == "image/svg+xml" and drawing.headers["Content-Security-Policy"].endswith(
        "sandbox"
    )
    assert "&lt;b&gt;words" in get(signed_in, address["words.txt"])
    get(signed_in, f"{address['words.txt']}/drawing", 404)
    get(signed_in, f"{address['words.txt']}/series", 404)


def test_all_results_as_one_file(
    signed_in: FlaskClient, app: APIFlask, attempt: Any, parts: Services
) -> None:
    location = submit(signed_in, label="Größe")
    get(signed_in, f"{location}/results.zip", 404)
    finish(app, task_of(signed_in, location), attempt, outcome="success", exit_code=0)
    answer = signed_in.get(f"{location}/results.zip", **BASE)
    archive = zipfile.ZipFile(io.BytesIO(answer.data))
    assert set(archive.namelist()) == {"job.json", "request.json", "counts.csv", "greeting.txt", "plot.svg"}
    for page in (location, f"{location}/results"):
        assert f'href="{location}/crate.zip"' in get(signed_in, page)
    crate = zipfile.ZipFile(io.BytesIO(signed_in.get(f"{location}/crate.zip", **BASE).data))
    assert {"ro-crate-metadata.json", "results/task/plot.svg"} <= set(crate.namelist())
    assert archive.read("plot.svg") == b"<svg/>"
    assert "filename*=UTF-8''Gr%C3%B6%C3%9Fe-" in answer.headers["Content-Disposition"]
    assert "counts.csv" in get(signed_in, f"{location}/results")
    small = parts.settings.web.model_copy(update={"zip_max_bytes": 10})
    app.extensions["labfleet"] = replace(parts, settings=parts.settings.model_copy(update={"web": small}))
    assert "labfleet fetch" in get(signed_in, f"{location}/results.zip", 413)


def test_what_others_made_is_not_there(
    signed_in: FlaskClient, caller: Any, make_user: Any, attempt: Any
) -> None:
    job = caller(make_user("eve")).submit()
    worker = attempt(job["tasks"][0]["id"])
    worker("POST", "claim", json={"worker": "worker-1", "claim_id": "c"})
    put(worker, "a.json", "array", b"[1, 2]")
    worker("POST", "finish", json={"outcome": "success", "exit_code": 0})
    with signed_in.application.extensions["labfleet"].sessions() as db:
        artifact = db.scalar(select(Artifact.id))
    task = job["tasks"][0]["id"]
    for path in ("", "/live", "/results", "/request", "/timeline", "/results.zip"):
        get(signed_in, f"/jobs/{job['id']}{path}", 404)
    for path in ("", "/content", "/series", "/drawing"):
        get(signed_in, f"/artifacts/{artifact}{path}", 404)
    for path in (
        f"/jobs/{job['id']}/again",
        f"/jobs/{job['id']}/delete",
        f"/jobs/{job['id']}/words",
        f"/tasks/{task}/retry",
    ):
        assert post(signed_in, "/jobs", path).status_code == 404


PREVIEW: dict[str, Any] = {
    "format": "text",
    "rows": 3000,
    "columns_total": 90,
    "encoding": "utf-8",
    "separator": ";",
    "separator_name": "semicolon",
    "header": True,
    "notes": ["Column 'n' begins as whole number."],
    "rejected": {
        "count": 1,
        "more": False,
        "lost": 12,
        "shown": [{"line": 2000, "byte": 4711, "column": "<b>", "message": "a quote is opened"}],
    },
    "columns": [
        {
            "name": "<b>x",
            "type": "number",
            "missing": 30,
            "distinct": 2970,
            "least": -1.5,
            "greatest": 18.5,
            "mean": 3.25,
            "median": 3,
            "histogram": [*range(20)],
        },
        {
            "name": "group",
            "type": "text",
            "missing": 0,
            "distinct": 2,
            "top": [{"value": "a", "count": 2000}, {"value": "", "count": 1000}],
        },
        {"name": "empty", "type": "text", "missing": 3000, "distinct": 0},
        {
            "name": "day",
            "type": "date",
            "missing": 0,
            "distinct": 1,
            "least": "2026-01-02",
            "greatest": "2026-01-02",
        },
    ],
    "head": [["1.5", "a", None, "2026-01-02"]],
}


def test_a_dataset_has_a_page_with_what_is_in_it(signed_in: FlaskClient, parts: Services) -> None:
    answer = post(signed_in, "/datasets", "/datasets", file=(io.BytesIO(b"a;b\n1;2\n"), "a.csv"))
    path = answer.headers["Location"]
    assert "is being made" in get(signed_in, path) and 'hx-trigger="every 2s"' in get(
        signed_in, f"{path}/live"
    )
    with parts.sessions.begin() as db:
        taken = previews.take(db, 60, 3)
        assert taken is not None
        previews.settle(db, taken, PREVIEW, "")
    page = get(signed_in, path)
    for text in (
        "3,000 rows",
        "semicolon",
        "UTF-8",
        "Line 2,000",
        "byte 4,711",
        "About 12 lines",
    ):
        assert text in page, text
    assert "<b>" not in page and "&lt;b&gt;x" in page
    assert page.count("<rect") == 19 + 2
    assert "30 missing (1 %)" in page and "(empty)" in page and "always 2026-01-02" in page
    assert "style=" not in page and "hx-trigger" not in get(signed_in, f"{path}/live")


def test_a_dataset_s_page_changes_what_is_told_and_takes_the_next_version(signed_in: FlaskClient) -> None:
    file = (io.BytesIO(b"x"), "a.bin")
    path = post(signed_in, "/datasets", "/datasets", file=file).headers["Location"]
    form = {"description": "One\ntwo", "licence": "CC0-1.0", "labels": "plate 4, pilot,", "terms": ""}
    assert post(signed_in, path, path, **form).headers["Location"] == path
    page = get(signed_in, path)
    for text in ("One\ntwo", "CC0-1.0", '<span class="word">plate 4</span>', "Previews are made of tables"):
        assert text in page
    refused = post(signed_in, path, path, labels=",".join(map(str, range(30))))
    assert refused.status_code == 422 and "labels" in refused.text
    file = (io.BytesIO(b"y"), "b.bin")
    newer = post(signed_in, path, f"{path}/versions", file=file).headers["Location"]
    assert "version 2 of 2" in get(signed_in, newer) and "There is a newer version" in get(signed_in, path)
    assert post(signed_in, path, f"{path}/versions", file=(io.BytesIO(b""), "")).status_code == 422
    get(signed_in, "/datasets/00000000-0000-0000-0000-000000000000", 404)


def test_a_preview_that_failed_says_why_and_may_be_tried_again(
    signed_in: FlaskClient, parts: Services
) -> None:
    file = (io.BytesIO(b"\0"), "a.csv")
    path = post(signed_in, "/datasets", "/datasets", file=file).headers["Location"]
    with parts.sessions.begin() as db:
        taken = previews.take(db, 60, 3)
        assert taken is not None
        previews.settle(db, taken, None, "Line 1 has a zero byte.")
    assert "Line 1 has a zero byte." in get(signed_in, path)
    assert post(signed_in, path, f"{path}/preview").status_code == 303
    assert "is being made" in get(signed_in, path)


def test_datasets_are_searched_shared_and_deleted_by_their_pages(
    signed_in: FlaskClient, parts: Services, make_user: Any
) -> None:
    make_user("eve")
    path = post(signed_in, "/datasets", "/datasets", file=(io.BytesIO(b"x"), "plate_4.bin")).headers[
        "Location"
    ]
    post(signed_in, path, path, labels="pilot, cells")
    listed = get(signed_in, "/datasets?text=plate&labels=pilot")
    assert "plate_4.bin" in listed and "labels=pilot%2Ccells" in listed
    assert "No dataset is like this" in get(signed_in, "/datasets?text=other")
    assert "Only you and admins" in get(signed_in, path)
    assert post(signed_in, path, f"{path}/sharing", users="eve").status_code == 303
    assert "Shared with eve" in get(signed_in, path)
    assert post(signed_in, path, f"{path}/sharing", users="nobody").status_code == 404
    assert post(signed_in, path, f"{path}/sharing", public="true").status_code == 303
    assert "Everybody in the lab sees it" in get(signed_in, path)
    assert post(signed_in, path, f"{path}/delete").headers["Location"] == "/datasets"
    get(signed_in, path, 404)
