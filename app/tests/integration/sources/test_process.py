"""The process `labfleet data` as systemd starts it, with a real database and a real store."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from resident import Residents, database_section, end, wait_for
from sqlalchemy import URL, func, text
from sqlalchemy.orm import Session, sessionmaker

from labfleet.datasets import previews, service
from labfleet.datasets.store import BlobStore
from labfleet.db.models import Preview, User

Sessions = sessionmaker[Session]
Start = Callable[..., subprocess.Popen[str]]
# So long that only a notification can be what woke the process.
POLL_SECONDS = 60


@pytest.fixture
def upload(sessions: Sessions, store: BlobStore, user: User) -> Callable[..., uuid.UUID]:
    def upload(name: str, content: bytes) -> uuid.UUID:
        with sessions.begin() as db:
            blob = store.put(io.BytesIO(content), limit=10**9)
            return service.add_dataset(db, user, name, "", blob).id

    return upload


@pytest.fixture
def start(tmp_path: Path, database_url: URL, residents: Residents, store: BlobStore) -> Start:
    """Start a process, and wait until it is ready."""
    credentials = {"database_password": database_url.password or ""}
    (tmp_path / "work").mkdir()

    def start(**settings: Any) -> subprocess.Popen[str]:
        lines = "\n".join(f"{key} = {value}" for key, value in settings.items())
        text = f"""
            [web]
            public_url = "https://lab.example"
            store = "{store.root}"
            {database_section(database_url)}
            [dispatcher]
            database_user = "{database_url.username}"
            runner_urls = ["http://127.0.0.1:9"]
            [data]
            poll_seconds = {POLL_SECONDS}
            {lines}
            """
        process = residents.start("data", text, credentials, TMPDIR=str(tmp_path / "work"))
        residents.hear(b"READY=1")
        return process

    return start


@pytest.fixture
def seen(sessions: Sessions) -> Callable[[uuid.UUID], Preview]:
    def seen(dataset: uuid.UUID) -> Preview:
        with sessions() as db:
            found = previews.get(db, dataset)
            assert found is not None
            return found

    return seen


def test_a_table_is_looked_through_as_soon_as_it_is_there(
    start: Start, upload: Callable[..., uuid.UUID], seen: Callable[[uuid.UUID], Preview], tmp_path: Path
) -> None:
    early, other = upload("early.csv", b"a,b\n1,x\n2,y\n"), upload("notes.txt", b"no table")
    process = start()
    wait_for(lambda: seen(early).state == "done")
    late = upload("late.json", b'[{"secret": 7}]')
    wait_for(lambda: seen(late).state == "done")
    result = seen(early).result
    assert result is not None
    assert (result["rows"], result["columns_total"]) == (2, 2)
    with pytest.raises(AssertionError):
        seen(other)
    log = end(process)
    assert [line["event"] for line in log] == ["data starts", *["preview made"] * 2, "data ends"]
    assert "secret" not in json.dumps(log)
    assert list((tmp_path / "work").iterdir()) == []


def test_what_is_no_table_fails_with_a_reason(
    start: Start, upload: Callable[..., uuid.UUID], seen: Callable[[uuid.UUID], Preview]
) -> None:
    bad, large = upload("bad.csv", b"a,b\n1,\x00\n"), upload("large.csv", b"a,b\n" + b"1,2\n" * 400)
    start(preview_max_bytes=1000)
    wait_for(lambda: seen(bad).state == seen(large).state == "failed")
    assert seen(bad).message.startswith("Line 2 (byte 6) has a zero byte")
    assert "1000 bytes" in seen(large).message
    assert seen(bad).result is None


def test_too_much_disk_on_the_way_is_a_reason(
    start: Start, upload: Callable[..., uuid.UUID], seen: Callable[[uuid.UUID], Preview]
) -> None:
    dataset = upload("western.csv", "a,b\nü,2\n".encode("cp1252") * 10_000)
    start(preview_disk_bytes=20_000)
    wait_for(lambda: seen(dataset).state == "failed")
    assert seen(dataset).message.startswith("It takes more than there is")


def test_a_reader_that_is_killed_is_started_again_and_given_up_in_the_end(
    start: Start, upload: Callable[..., uuid.UUID], seen: Callable[[uuid.UUID], Preview], sessions: Sessions
) -> None:
    rows = b"".join(b"%d,%d\n" % (number, number * 7) for number in range(200_000))
    dataset = upload("long.csv", b"a,b\n" + rows * 10)
    process = start(tries=2)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    for number in (1, 2):
        wait_for(lambda: seen(dataset).state == "running" and children.read_text() != "")
        os.kill(int(children.read_text().split()[0]), signal.SIGKILL)
        wait_for(lambda: seen(dataset).state != "running")
        assert (seen(dataset).state, seen(dataset).tries) == ("queued", number)
        with sessions.begin() as db:
            db.get_one(Preview, dataset).due_at = func.clock_timestamp()
            db.execute(text(f"NOTIFY {previews.CHANNEL}"))
    wait_for(lambda: seen(dataset).state == "failed")
    assert "each time it was tried" in seen(dataset).message


def test_stopped_at_work_the_next_one_takes_it_up(
    start: Start, upload: Callable[..., uuid.UUID], seen: Callable[[uuid.UUID], Preview]
) -> None:
    rows = b"".join(b"%d,%d\n" % (number, number * 7) for number in range(200_000))
    dataset = upload("long.csv", b"a,b\n" + rows * 10)
    process = start()
    wait_for(lambda: seen(dataset).state == "running")
    end(process)
    assert (seen(dataset).state, seen(dataset).tries) in {("queued", 0), ("done", 1)}
    start()
    wait_for(lambda: seen(dataset).state == "done")
    result = seen(dataset).result
    assert result is not None
    assert result["rows"] == 2_000_000
