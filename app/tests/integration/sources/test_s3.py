"""Objects of an S3 store, with real processes and a real server (rclone's)."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import duckdb
import pytest
from resident import wait_for
from sqlalchemy import text

from labfleet.db.models import Dataset, Fetch
from labfleet.errors import InvalidSource
from labfleet.fetching.handlers import s3
from labfleet.fetching.handlers.base import FetchFailed, Task
from labfleet.sources import service
from labfleet.sources.spec import Definition
from labfleet.sources.vault import Vault

from .conftest import KEYS, Lab, Site

KEY = {"access_key": "AKLAB7", "secret_key": "s3cr3t/+of-the-test"}
CELLS = b"cell,count\na,1\nb,2\n"
STRANGE = "Plates 2026/ä+b (1)&c='d'~e,%41.csv"


@pytest.fixture
def bucket(tmp_path: Path, tls: Path, s3_port: int) -> Iterator[Path]:
    """The directory of the bucket `lab` of a server that asks for the key."""
    (tmp_path / "s3" / "lab").mkdir(parents=True)
    command = [str(Path(sys.executable).parent / "rclone"), "serve", "s3", str(tmp_path / "s3")]
    command += ["--addr", f"127.0.0.1:{s3_port}", "--vfs-cache-mode=off", "--dir-cache-time=0s"]
    command += ["--cert", str(tls / "server.crt"), "--key", str(tls / "server.key")]
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "RCLONE_CONFIG": os.devnull,
        "RCLONE_AUTH_KEY": f'"{KEY["access_key"]},{KEY["secret_key"]}"',
    }
    with (tmp_path / "s3.log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def listens() -> bool:
        with suppress(OSError), closing(socket.create_connection(("127.0.0.1", s3_port), 1)):
            return True
        return False

    try:
        wait_for(listens)
        yield tmp_path / "s3" / "lab"
    finally:
        server.terminate()
        server.wait(timeout=60)
        print((tmp_path / "s3.log").read_text())


def endpoint(port: int) -> str:
    return f"https://127.0.0.1:{port}"


def test_an_object_becomes_a_dataset_and_its_next_version(lab: Lab, bucket: Path, s3_port: int) -> None:
    (bucket / "Plates 2026").mkdir()
    (bucket / STRANGE).write_bytes(CELLS)
    parameters = {"endpoint": endpoint(s3_port), "bucket": "lab", "key": STRANGE}
    source = lab.source(given=KEY, handler="s3", parameters=parameters)
    asked: list[object] = []
    threads = [threading.Thread(target=lambda: asked.append(lab.ask(source).id)) for _ in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(set(asked)) == 1
    fetch = lab.ended(lab.ask(source))
    assert (fetch.state, fetch.message, fetch.rows) == ("success", "", 2)
    rows = duckdb.connect().execute(f"SELECT * FROM read_parquet('{lab.content(fetch)}')").fetchall()
    assert rows == [("a", 1), ("b", 2)]
    (bucket / STRANGE).write_bytes(CELLS + b"c,3\n")
    again = lab.fetched(source, anew=True)
    with lab.sessions() as db:
        made = db.get_one(Dataset, again.dataset_id)
        assert (made.version, made.previous_id) == (2, fetch.dataset_id)


def test_a_file_as_it_is_and_its_bounds(lab: Lab, bucket: Path, s3_port: int) -> None:
    (bucket / "a.bin").write_bytes(os.urandom(1_500_000))
    (bucket / "large.bin").write_bytes(bytes(2_000_001))
    here = {"endpoint": endpoint(s3_port) + "/", "bucket": "lab", "region": "eu-garage"}
    kept = lab.source("a", given=KEY, handler="s3", parameters=here | {"key": "a.bin"}, format="file")
    fetch = lab.fetched(kept)
    assert fetch.state == "success", fetch.message
    assert lab.content(fetch).read_bytes() == (bucket / "a.bin").read_bytes()
    with lab.sessions() as db:
        assert db.get_one(Dataset, fetch.dataset_id).name == "a.bin"
    large = lab.source("l", given=KEY, handler="s3", parameters=here | {"key": "large.bin"}, format="file")
    assert "larger than the 2,000,000 bytes" in lab.fetched(large).message


def test_what_the_store_refuses_is_said_with_what_to_do(lab: Lab, bucket: Path, s3_port: int) -> None:
    (bucket / "a.csv").write_bytes(CELLS)
    here = {"endpoint": endpoint(s3_port), "bucket": "lab", "key": "a.csv"}
    wrong = KEY | {"secret_key": "wrong-secret-9"}
    cases: dict[str, tuple[dict[str, str] | None, dict[str, str], str]] = {
        "bucket": (KEY, {"bucket": "nothing"}, "There is no bucket 'nothing' at 127.0.0.1"),
        "key": (KEY, {"key": "A.csv"}, "The bucket 'lab' has no object 'A.csv'"),
        "secret": (wrong, {}, "The secret key does not belong to the access key"),
        "unknown": (KEY | {"access_key": "OTHER"}, {}, "does not know the access key"),
        "nobody": (None, {}, "does not give 'a.csv' of the bucket 'lab' to everybody"),
        "closed": (KEY, {"endpoint": "https://127.0.0.1:9999"}, "its port 9999 may not be fetched from"),
        "inside": (KEY, {"endpoint": "https://10.1.2.3"}, "10.1.2.3 lies in no network that may be fetched"),
        "away": (KEY, {"endpoint": "https://127.0.0.1:9"}, "It can't be fetched"),
    }
    fetches = {
        name: lab.ask(lab.source(name, given=given, handler="s3", parameters=here | changes))
        for name, (given, changes, _) in cases.items()
    }
    for name, fetch in fetches.items():
        ended = lab.ended(fetch)
        assert ended.state == "failed", name
        assert cases[name][2] in ended.message, ended.message
        assert ended.tries == (3 if name == "away" else 1), name
    for process in (lab.processes.pop("loader"), lab.processes.pop("fetcher")):
        process.terminate()
        _, log = process.communicate(timeout=60)
        assert KEY["secret_key"] not in log and "wrong-secret-9" not in log
    with lab.sessions() as db:
        kept = "".join(
            str(row)
            for table in ("sources", "source_credentials", "fetches", "datasets", "audit")
            for row in db.execute(text(f"SELECT to_jsonb(t)::text FROM {table} t"))
        )
    assert KEY["secret_key"] not in kept and KEY["access_key"] not in kept and '"secret_key"' in kept


def test_objects_of_a_pattern_become_one_table(lab: Lab, bucket: Path, s3_port: int) -> None:
    runs = {"2026-02": "t,V\n0,-80\n1,-79\n", "2026-01": "V,t\n-81.5,0\n", "2025-12": "other\n1\n"}
    for run, content in runs.items():
        (bucket / "runs ä" / run / "deep").mkdir(parents=True)
        (bucket / "runs ä" / run / "traces.csv").write_text(content)
        (bucket / "runs ä" / run / "deep" / "traces.csv").write_text("x\n1\n")
    for number in range(1005):  # more than one page
        (bucket / "runs ä" / f"2026-{number}.txt").write_text("no run")
    parameters = {"endpoint": endpoint(s3_port), "bucket": "lab", "keys": "runs ä/2026-*/traces.csv"}
    step = {"filter": {"column": "t", "is": "<", "value": 5}}
    source = lab.source(given=KEY, handler="s3", parameters=parameters, transform=[step])
    fetch = lab.fetched(source)
    assert (fetch.state, fetch.message, fetch.rows) == ("success", "", 3)
    found = duckdb.connect().execute(f"SELECT * FROM read_parquet('{lab.content(fetch)}')")
    assert [each[0] for each in found.description] == ["V", "t", "from_object"]
    assert found.fetchall() == [
        (-81.5, 0, "runs ä/2026-01/traces.csv"),
        (-80.0, 0, "runs ä/2026-02/traces.csv"),
        (-79.0, 1, "runs ä/2026-02/traces.csv"),
    ]
    assert not lab.fetched(source, anew=True).changed  # the same objects are the same table
    with (bucket / "runs ä" / "2026-01" / "traces.csv").open("a") as file:
        file.write("x\n")
    assert lab.fetched(source, anew=True).message == (
        "runs ä/2026-01/traces.csv: 1 line is not as it should be: "
        "line 3, column 't': fewer columns than the first lines have."
    )


def test_what_pattern_and_version_can_not_do_is_said(lab: Lab, bucket: Path, s3_port: int) -> None:
    for name in ("a.csv", "b.csv"):
        (bucket / name).write_bytes(CELLS)
    (bucket / "large-1.csv").write_bytes(b"x\n" * 600_000)
    (bucket / "large-2.csv").write_bytes(b"x\n" * 600_000)
    here = {"endpoint": endpoint(s3_port), "bucket": "lab"}
    cases: dict[str, tuple[dict[str, str], dict[str, str], str]] = {
        "none": ({"keys": "A*.csv"}, {}, "No object has a key like 'A*.csv'"),
        "file": ({"keys": "?.csv"}, {"format": "file"}, "Several files are put together in a table"),
        "much": ({"keys": "large*.csv"}, {}, "It is larger than the 2,000,000 bytes"),
        "bucket": ({"keys": "*", "bucket": "nothing"}, {}, "There is no bucket 'nothing'"),
        "version": ({"key": "a.csv", "version": "3/L4kqtJlcpXroDTDmJ"}, {}, "does not know versions: leave"),
    }
    fetches = {
        name: lab.ask(lab.source(name, given=KEY, handler="s3", parameters=here | parameters, **more))
        for name, (parameters, more, _) in cases.items()
    }
    for name, fetch in fetches.items():
        ended = lab.ended(fetch)
        assert (ended.state, ended.tries) == ("failed", 1), (name, ended.message)
        assert cases[name][2] in ended.message, ended.message
    with pytest.raises(InvalidSource, match="one of 'key', 'keys' must be given, and only one"):
        lab.source("both", handler="s3", parameters=here | {"key": "a", "keys": "*"})


def test_a_version_is_the_one_that_was_asked_for(lab: Lab, site: Site) -> None:
    """As a store answers that keeps versions: the tests' S3 server keeps none."""
    version = "3/L4=+x"
    asked = "/lab/a.csv?versionId=3%2FL4%3D%2Bx"
    site.files |= {asked: CELLS, "/lab/b.csv?versionId=1": CELLS, "/lab/c.csv?versionId=1": b""}
    site.headers |= {asked: {"x-amz-version-id": version}, "/lab/b.csv?versionId=1": {}}
    site.files["/lab/c.csv?versionId=1"] = b"<Error><Code>NoSuchVersion</Code></Error>"
    site.status["/lab/c.csv?versionId=1"] = 404
    here = {"endpoint": site.url(""), "bucket": "lab"}

    def fetched(key: str, version: str) -> Fetch:
        parameters = here | {"key": f"{key}.csv", "version": version}
        return lab.fetched(lab.source(key, given=KEY, handler="s3", parameters=parameters))

    good = fetched("a", version)
    assert (good.state, good.rows) == ("success", 2), good.message
    assert "The store gave the object, but not by its version" in fetched("b", "1").message
    assert "There is no version '1' of 'c.csv' of the bucket 'lab'" in fetched("c", "1").message


@pytest.mark.parametrize("how", ["etag", "gone", "condition", "size"])
def test_an_object_that_changes_after_it_was_listed_is_noticed(how: str, lab: Lab, site: Site) -> None:
    listed = (
        "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>a.csv</Key>"
        f"<Size>{len(CELLS)}</Size><ETag>&quot;1&quot;</ETag></Contents></ListBucketResult>"
    )
    site.files |= {"/lab/?list-type=2&max-keys=1000&prefix=": listed.encode(), "/lab/a.csv": CELLS}
    site.headers["/lab/a.csv"] = {"ETag": '"2"' if how == "etag" else '"1"'}
    if how == "gone":
        site.files["/lab/a.csv"] = b"<Error><Code>NoSuchKey</Code></Error>"
    if how == "size":
        site.files["/lab/a.csv"] += b"c,3\n"
    site.status["/lab/a.csv"] = {"gone": 404, "condition": 412}.get(how, 200)
    parameters = {"endpoint": site.url(""), "bucket": "lab", "keys": "*.csv"}
    source = lab.source(given=KEY, handler="s3", parameters=parameters)
    failed = lab.fetched(source)
    assert (failed.state, failed.tries) == ("failed", 3)
    assert failed.message == "'a.csv' was changed or deleted while it was fetched."
    asked = [headers for path, headers in site.asked if path == "/lab/a.csv"]
    assert asked and all(headers["If-Match"] == '"1"' for headers in asked)
    assert all("if-match" in headers["Authorization"] for headers in asked)
    site.files["/lab/a.csv"], site.status["/lab/a.csv"] = CELLS, 200
    site.headers["/lab/a.csv"] = {"ETag": '"1"'}
    assert lab.fetched(source, anew=True).state == "success"


Answers = dict[str, tuple[int, dict[str, str], str, str]]
ANSWERS: Answers = {
    # As Amazon answers where a bucket lies in another region, or an own store that has a region of its own.
    "moved": (
        301,
        {"x-amz-bucket-region": "eu-west-1"},
        "<Code>PermanentRedirect</Code>",
        "lies in the region 'eu-west-1'",
    ),
    "named": (
        400,
        {},
        "<Code>AuthorizationHeaderMalformed</Code><Region>garage</Region>",
        "the region 'garage'",
    ),
    "unnamed": (
        400,
        {},
        "<Code>AuthorizationHeaderMalformed</Code>",
        "takes no requests for the region 'us-east-1'",
    ),
    "new": (
        307,
        {"Location": "http://10.9.9.9/lab/new"},
        "<Code>TemporaryRedirect</Code>",
        "The store leads to 10.9.9.9",
    ),
    "over": (400, {}, "<Code>ExpiredToken</Code>", "The session token is not good any more"),
    "cold": (403, {}, "<Code>InvalidObjectState</Code>", "of the bucket 'lab' is archived: restore it"),
    "odd": (400, {}, "<Code>Odd</Code><Message>so\n so</Message>", "answered 400 Bad Request (Odd: so so)."),
    "plain": (403, {}, "no XML", "The access key may not read 'plain' of the bucket 'lab'"),
}


def test_what_other_stores_answer(lab: Lab, site: Site) -> None:
    for key, (status, headers, said, _) in ANSWERS.items():
        site.files[f"/lab/{key}"] = f"<Error>{said}</Error>".encode()
        site.status[f"/lab/{key}"], site.headers[f"/lab/{key}"] = status, headers
    site.files["/lab/busy"], site.status["/lab/busy"] = b"<Error><Code>SlowDown</Code></Error>", 503
    token = KEY | {"session_token": "tok-of-some-hours"}
    here = {"endpoint": site.url(""), "bucket": "lab"}
    asked = {
        key: lab.ask(lab.source(key, given=token, handler="s3", parameters=here | {"key": key}))
        for key in [*ANSWERS, "busy"]
    }
    for key, (*_, told) in ANSWERS.items():
        ended = lab.ended(asked[key])
        assert (ended.state, ended.tries) == ("failed", 1), key
        assert told in ended.message, ended.message
    busy = lab.ended(asked["busy"])
    assert (busy.state, busy.tries) == ("failed", 3)
    assert "503" in busy.message
    for _, headers in site.asked:
        sent = {name.lower(): value for name, value in headers.items()}
        assert sent["x-amz-security-token"] == "tok-of-some-hours"
        assert "x-amz-security-token" in sent["authorization"]
        assert KEY["secret_key"] not in str(headers)


def test_credentials_are_for_one_store_and_not_in_clear(lab: Lab, s3_port: int, tmp_path: Path) -> None:
    parameters = {"endpoint": endpoint(s3_port), "bucket": "lab", "key": "a.csv"}
    source = lab.source(given=KEY, handler="s3", parameters=parameters)

    def change(**changes: str) -> None:
        with lab.sessions.begin() as db:
            changed = Definition(handler="s3", parameters=parameters | changes)
            service.change_source(db, db.merge(lab.user), source, definition=changed, vault=Vault(KEYS))

    change(key="b.csv", version="1")
    for changes in (
        {"endpoint": "https://s3.lab"},
        {"bucket": "b2"},
        {"region": "x"},
        {"addressing": "host"},
    ):
        with pytest.raises(InvalidSource):
            change(**changes)
    clear = Task(parameters | {"endpoint": "http://127.0.0.1:9"}, KEY, tmp_path, 1000, 30)
    with pytest.raises(FetchFailed, match="would go through the network in clear"):
        s3.S3().fetch(clear)
