"""Sources, from the question to the dataset, with real processes and a real web server."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
import workbooks
from resident import wait_for

from labfleet.datasets import service as datasets
from labfleet.db.models import Dataset, User
from labfleet.errors import Forbidden, UnknownSource
from labfleet.sources import access, fetches, service

from .conftest import Lab, Site

CELLS = b"cell,count\na,1\nb,2\n"


def rows(path: Path) -> list[tuple[object, ...]]:
    return duckdb.connect().execute(f"SELECT * FROM read_parquet('{path}')").fetchall()


def test_a_table_of_a_web_server_becomes_a_dataset(lab: Lab, site: Site) -> None:
    site.files["/cells.csv"] = CELLS
    source = lab.source(handler="http", parameters={"url": site.url("/cells.csv")})
    fetch = lab.fetched(source)
    assert (fetch.state, fetch.message, fetch.rows, fetch.changed) == ("success", "", 2, True)
    assert rows(lab.content(fetch)) == [("a", 1), ("b", 2)]
    with lab.sessions() as db:
        made = db.get_one(Dataset, fetch.dataset_id)
        assert (made.name, made.version, made.media_type) == (
            "cells.parquet",
            1,
            "application/vnd.apache.parquet",
        )
        assert made.owner_id == lab.user.id
    wait_for(lambda: list(lab.work.iterdir()) == [])


def test_workbooks_and_parquet_come_as_tables(lab: Lab, site: Site, tmp_path: Path) -> None:
    duckdb.connect().execute(f"COPY (SELECT 7::SMALLINT AS n) TO '{tmp_path / 'p'}' (FORMAT parquet)")
    site.files |= {"/plates.xlsx": workbooks.workbook(), "/export": (tmp_path / "p").read_bytes()}
    site.headers["/export"] = {"Content-Type": "application/vnd.apache.parquet"}
    plate = lab.source("plate", handler="http", parameters={"url": site.url("/plates.xlsx")}, sheet="Plate 1")
    assert rows(lab.content(lab.fetched(plate))) == [("A1", 3), ("A2", 4)]
    export = lab.fetched(lab.source("export", handler="http", parameters={"url": site.url("/export")}))
    assert export.state == "success", export.message
    assert rows(lab.content(export)) == [(7,)]


def test_once(lab: Lab, site: Site) -> None:
    """Asked twice at the same moment it is fetched once, and again after its lifetime or when asked anew."""
    site.files["/cells.csv"] = CELLS
    source = lab.source(handler="http", parameters={"url": site.url("/cells.csv")})
    site.gate.clear()
    asked = [threading.Thread(target=lab.ask, args=[source]) for _ in range(8)]
    for each in asked:
        each.start()
    for each in asked:
        each.join()
    first = lab.ask(source)
    wait_for(lambda: len(site.asked) == 1)
    assert lab.ask(source, anew=True).id == first.id
    site.gate.set()
    done = lab.ended(first)
    assert (done.state, len(site.asked)) == ("success", 1)
    assert lab.fetched(source).id == first.id
    again = lab.fetched(source, anew=True)
    assert (again.changed, again.dataset_id, len(site.asked)) == (False, done.dataset_id, 2)
    site.files["/cells.csv"] = CELLS + b"c,3\n"
    third = lab.fetched(source, anew=True)
    assert third.changed
    with lab.sessions() as db:
        made = db.get_one(Dataset, third.dataset_id)
        assert (made.version, made.previous_id) == (2, done.dataset_id)
    short = lab.source("short", lifetime=0, handler="http", parameters={"url": site.url("/cells.csv")})
    assert lab.fetched(short).id != lab.fetched(short).id


def test_what_goes_wrong_is_said_and_nothing_stays(lab: Lab, site: Site) -> None:
    site.files |= {
        "/broken.csv": b"a,b\n" + b"1,2\n" * 5000 + b'"3,4\n' + b"5,6\n" * 100,
        "/short.csv": CELLS,
        "/page.html": b"<p>no table</p>",
        "/large.bin": bytes(2_000_001),
        "/away.csv": CELLS,
        "/moved.csv": b"",
        "/inside.csv": b"",
    }
    site.headers["/short.csv"] = {"Content-Length": "1000"}
    site.headers["/moved.csv"] = {"Location": site.url("/short.csv").replace("127.0.0.1", "10.1.2.3")}
    site.headers["/inside.csv"] = {"Location": "http://127.0.0.1:9999/secret"}
    site.status |= {"/away.csv": 503, "/moved.csv": 302, "/inside.csv": 302}
    expected = {
        "/broken.csv": "line 5,002, column 'a': a quote is opened and not closed",
        "/short.csv": "received 19 bytes, expected 1000",
        "/page.html": "It can't be told of which format 'page.html' is",
        "/large.bin": "larger than the 2,000,000 bytes",
        "/away.csv": "The server answered 503",
        "/missing.csv": "The server answered 404 Not Found. Is the address right?",
        "/moved.csv": "10.1.2.3 lies in no network that may be fetched from",
        "/inside.csv": "its port 9999 may not be fetched from",
    }
    asked = {
        path: lab.ask(lab.source(path[1:], handler="http", parameters={"url": site.url(path)}))
        for path in expected
    }
    for path, fetch in asked.items():
        ended = lab.ended(fetch)
        assert ended.state == "failed", path
        assert expected[path] in ended.message, ended.message
        assert ended.dataset_id is None
    tries = {path: lab.seen(fetch).tries for path, fetch in asked.items()}
    assert {path for path, number in tries.items() if number > 1} == {"/short.csv", "/away.csv"}
    assert [path for path, _ in site.asked].count("/away.csv") == 3
    assert [path for path in lab.store.blobs.rglob("*") if path.is_file()] == []
    assert list(lab.store.tmp.iterdir()) == []


def test_folders_that_are_open_and_no_others(lab: Lab, tmp_path: Path) -> None:
    (lab.folder / "plate.tsv").write_bytes(b"well\tod\nA1\t0.5\n")
    (lab.folder / "out").symlink_to(tmp_path / "webserver.toml")
    (lab.folder / "notes.txt").write_bytes(b"as it is")
    good = lab.fetched(lab.source(handler="folder", parameters={"path": str(lab.folder / "plate.tsv")}))
    assert rows(lab.content(good)) == [("A1", 0.5)]
    kept = lab.source(
        "notes", handler="folder", parameters={"path": f"{lab.folder}/notes.txt"}, format="file"
    )
    notes = lab.fetched(kept)
    assert lab.content(notes).read_bytes() == b"as it is"
    with lab.sessions() as db:
        assert db.get_one(Dataset, notes.dataset_id).name == "notes.txt"
    for number, path in enumerate(["out", "../webserver.toml", "../../../../etc/passwd", ".", "none.csv"]):
        given = {"path": f"{lab.folder}/{path}"}
        bad = lab.fetched(lab.source(f"bad{number}", handler="folder", parameters=given, format="csv"))
        assert bad.state == "failed"
        wanted = {".": "is no file", "none.csv": "There is no file"}.get(path, "lies in none of the folders")
        assert wanted in bad.message, bad.message


def test_a_fetch_is_cancelled_and_a_loader_that_ends_loses_none(lab: Lab, site: Site) -> None:
    site.files["/cells.csv"] = CELLS
    site.gate.clear()
    source = lab.source(handler="http", parameters={"url": site.url("/cells.csv")})
    fetch = lab.ask(source)
    wait_for(lambda: lab.seen(fetch).state == "running")
    with lab.sessions.begin() as db:
        assert fetches.cancel(db, db.merge(lab.user), source, fetch.id).state == "cancelled"
    wait_for(lambda: list(lab.work.iterdir()) == [])  # the process that fetched is gone
    second = lab.ask(source)
    wait_for(lambda: lab.seen(second).state == "running")
    loader = lab.processes.pop("loader")
    loader.terminate()
    _, log = loader.communicate(timeout=60)
    assert loader.returncode == 0, log
    assert lab.seen(second).state == "queued"
    assert "cells.csv" not in log
    lab.start("loader")
    site.gate.set()
    assert lab.ended(second).state == "success"
    assert lab.seen(fetch).state == "cancelled"


def test_whom_a_source_is_shared_with_sees_what_comes_of_it(
    lab: Lab, site: Site, make_user: Callable[..., User]
) -> None:
    site.files["/cells.csv"] = CELLS
    eve, source = make_user("eve"), lab.source(handler="http", parameters={"url": site.url("/cells.csv")})
    with lab.sessions() as db, pytest.raises(UnknownSource):
        fetches.ask(db, db.merge(eve), source)
    with lab.sessions.begin() as db:
        access.share(db, db.merge(lab.user), source, users=["eve"])
        fetch, new = fetches.ask(db, db.merge(eve), source)
        assert new
    assert lab.ended(fetch).state == "success"
    with lab.sessions() as db:
        assert fetch.dataset_id is None
        made = datasets.get_dataset(db, db.merge(eve), lab.seen(fetch).dataset_id or source)
        assert made.owner_id == lab.user.id
        with pytest.raises(Forbidden):
            service.delete_source(db, db.merge(eve), source)
