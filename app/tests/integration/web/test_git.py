"""`git clone`, `fetch` and `push` by the real git, against the real server on a real socket."""

from __future__ import annotations

import logging
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from apiflask import APIFlask
from protocol_archives import files_of
from sqlalchemy import select, update
from sqlalchemy.orm import Session, sessionmaker
from werkzeug.serving import make_server

from labfleet.db.models import Protocol, ProtocolVersion, User
from labfleet.protocols.store import ProtocolStore
from labfleet.users import service as users
from labfleet.web.services import Services

Server = Callable[[str, str], str]
Url = Callable[..., str]
IDENTITY = ("-c", "user.name=Ada", "-c", "user.email=ada@localhost", "-c", "init.defaultBranch=main")


@dataclass(frozen=True)
class Done:
    code: int
    said: str

    @property
    def remote(self) -> str:
        """What the server said."""
        lines = (line.removeprefix("remote:").strip() for line in self.said.splitlines() if "remote:" in line)
        return "\n".join(lines)


def run_git(where: Path, *arguments: str) -> Done:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(where),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C",
    }
    program = ["git", *IDENTITY, *arguments]
    done = subprocess.run(
        program, cwd=where, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    return Done(done.returncode, done.stdout + done.stderr)


class Work:
    """Somebody's working tree."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True)
        assert self("init", "-q").code == 0

    def __call__(self, *arguments: str) -> Done:
        return run_git(self.directory, *arguments)

    def commit(self, **about: Any) -> str:
        for name, text in files_of(**about).items():
            path = self.directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self("add", "-A")
        assert self("commit", "-q", "--allow-empty", "-m", "change").code == 0
        return self("rev-parse", "HEAD").said.strip()


@pytest.fixture
def server(app: APIFlask) -> Iterator[Server]:
    """The application on a port of loopback; `server(name, token)` is the beginning of a user's URLs."""
    logging.getLogger("werkzeug").handlers[:] = [logging.NullHandler()]
    served = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield lambda name, token: f"http://{name}:{token}@127.0.0.1:{served.port}/git"
    served.shutdown()
    thread.join()
    served.server_close()


@pytest.fixture
def url(server: Server, sessions: sessionmaker[Session]) -> Url:
    """`url(user)`: where the protocol `mine` is, for this user."""

    def make(user: User, name: str = "mine") -> str:
        with sessions.begin() as db:
            return f"{server(user.name, users.issue_token(db, user, 'git'))}/{name}.git"

    return make


@pytest.fixture
def bob(make_user: Callable[..., User]) -> User:
    return make_user("bob")


@pytest.fixture
def work(tmp_path: Path) -> Work:
    return Work(tmp_path / "work")


def versions(sessions: sessionmaker[Session], name: str = "mine") -> dict[str, str]:
    """Version → commit, oldest first, as the database has them."""
    query = select(ProtocolVersion).join(Protocol).where(Protocol.name == name)
    with sessions() as db:
        rows = db.scalars(query.order_by(ProtocolVersion.created_at)).all()
        return {row.version: row.commit for row in rows}


def left(parts: Services) -> list[str]:
    """What lies in the directory of protocols."""
    return sorted(path.name for path in parts.settings.web.protocols.glob("*"))


def test_a_push_makes_a_protocol_and_a_clone_brings_it_back(
    work: Work, url: Url, user: User, sessions: sessionmaker[Session], tmp_path: Path
) -> None:
    first = work.commit()
    pushed = work("push", "-q", url(user), "main")
    assert pushed.code == 0, pushed.said
    with sessions() as db:
        row = db.scalars(select(Protocol).where(Protocol.name == "mine")).one()
        assert (row.owner_id, row.public, row.stored_bytes > 0) == (user.id, False, True)
    assert versions(sessions) == {"1.0.0": first}
    assert run_git(tmp_path, "clone", "-q", url(user), "copy").code == 0
    assert (tmp_path / "copy" / "main.py").read_text() == "print('hello')\n"
    assert "1.0.0" in run_git(tmp_path / "copy", "tag").said


def test_commits_are_versions_and_tags_their_names(
    work: Work, url: Url, user: User, sessions: sessionmaker[Session], parts: Services
) -> None:
    remote = url(user)
    first = work.commit()
    work("push", "-q", remote, "main")
    second = work.commit(files={"main.py": "print('second')\n"})
    work("push", "-q", remote, "main")
    third = work.commit(version="2.0.0")
    work("tag", "-a", "2.0.0", "-m", "two")
    assert work("push", "-q", remote, "main", "2.0.0").code == 0
    expected = {"1.0.0": first, f"1.0.0+{second[:10]}": second, "2.0.0": third}
    assert versions(sessions) == expected
    assert ProtocolStore(parts.settings.web.protocols).versions("mine") == expected
    assert "refs/labfleet" not in work("ls-remote", remote).said


def test_nothing_that_a_result_points_to_is_ever_lost(
    work: Work, url: Url, user: User, sessions: sessionmaker[Session], parts: Services, tmp_path: Path
) -> None:
    remote = url(user)
    first = work.commit()
    work("push", "-q", remote, "main")
    work("checkout", "-q", "--orphan", "other")
    second = work.commit(version="2.0.0")
    assert work("push", "-q", remote, "other:main").code == 1
    assert work("push", "-q", "--force", remote, "other:main").code == 0
    assert versions(sessions) == {"1.0.0": first, "2.0.0": second}
    repository = parts.settings.web.protocols / "mine.git"
    run_git(repository, "-c", "safe.directory=*", "gc", "-q", "--prune=now")
    assert b"".join(ProtocolStore(parts.settings.web.protocols).archive("mine", first))
    deleted = work("push", remote, ":1.0.0")
    assert deleted.code == 1
    work("tag", "-f", "1.0.0", second)
    moved = work("push", "--force", remote, "1.0.0")
    assert "The tag 1.0.0 can't be moved" in moved.remote
    assert versions(sessions) == {"1.0.0": first, "2.0.0": second}


def test_faults_are_told_line_by_line_and_nothing_stays(
    work: Work, url: Url, user: User, sessions: sessionmaker[Session], parts: Services
) -> None:
    remote = url(user)
    bad = work.commit(files={"main.py": "def f(:\n"}, extra="\nneeds: {cores: none}")
    refused = work("push", remote, "main")
    assert refused.code == 1
    assert "main.py:1: Python:" in refused.remote
    assert "protocol.yml:7: needs.cores:" in refused.remote
    assert "Nothing was taken in." in refused.remote
    assert "pre-receive hook declined" in refused.said
    assert (versions(sessions), left(parts)) == ({}, [])
    good = work.commit()
    (work.directory / "main.py").write_text("print(1)\n")
    assert work("push", "-q", remote, "main").code == 0
    bad = work.commit(version="2.0.0", files={"main.py": "def f(:\n"})
    assert work("push", remote, "main").code == 1
    assert versions(sessions) == {"1.0.0": good}
    repository = parts.settings.web.protocols / "mine.git"
    assert run_git(repository, "-c", "safe.directory=*", "cat-file", "-e", bad).code != 0
    assert work("push", "-q", remote, f"{good}:refs/heads/main").code == 0


@pytest.mark.parametrize(
    ("refs", "told"),
    [
        (("main:refs/heads/feature",), "only the branch main and tags are taken"),
        (("main:refs/labfleet/9",), "deny updating a hidden ref"),
        (("main:refs/tags/9.9",), "the version is '1.0.0', but the tag is '9.9'"),
        (("main:refs/tags/no~name",), ""),
    ],
)
def test_other_refs_are_not_taken(
    work: Work, url: Url, user: User, parts: Services, refs: tuple[str, ...], told: str
) -> None:
    work.commit()
    refused = work("push", url(user), *refs)
    assert refused.code != 0
    assert told in refused.said
    assert left(parts) == []


def test_a_repository_has_one_name(work: Work, url: Url, user: User, parts: Services) -> None:
    work.commit(name="other")
    assert "but this is the repository of 'mine'" in work("push", url(user), "main").remote
    assert left(parts) == []


def test_links_and_submodules_that_lead_out(work: Work, url: Url, user: User, parts: Services) -> None:
    work.commit()
    (work.directory / "out").symlink_to("../../../etc/passwd")
    work("add", "-A")
    work("commit", "-q", "-m", "link")
    assert "leads out of the protocol" in work("push", url(user), "main").remote
    work("rm", "-q", "out")
    work("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},sub")
    work("commit", "-q", "-m", "submodule")
    assert "submodules are not followed: sub" in work("push", url(user), "main").remote
    assert left(parts) == []


def test_a_push_that_is_too_large_is_refused_early_and_told(
    work: Work, url: Url, user: User, parts: Services
) -> None:
    work.commit()
    (work.directory / "noise").write_bytes(os.urandom(40_000_000))
    work("add", "-A")
    work("commit", "-q", "-m", "noise")
    refused = work("push", url(user), "main")
    assert refused.code != 0
    assert "The push is larger than 2 MiB" in refused.remote
    assert left(parts) == []


def test_a_small_pack_of_something_huge(work: Work, url: Url, user: User, parts: Services) -> None:
    work.commit()
    with (work.directory / "zeros").open("wb") as file:
        file.truncate(200_000_000)
    work("add", "-A")
    work("commit", "-q", "-m", "zeros")
    refused = work("push", url(user), "main")
    assert refused.code == 1
    assert "'zeros' is too large" in refused.remote
    assert left(parts) == []


def test_the_quota_counts(
    work: Work, url: Url, user: User, sessions: sessionmaker[Session], parts: Services
) -> None:
    with sessions.begin() as db:
        db.execute(update(User).where(User.id == user.id).values(max_stored_bytes=50_000))
    work.commit()
    (work.directory / "noise").write_bytes(os.urandom(100_000))
    work("add", "-A")
    work("commit", "-q", "-m", "noise")
    assert "that your quota leaves" in work("push", url(user), "main").remote
    assert left(parts) == []
    work("reset", "-q", "--hard", "HEAD^")
    assert work("push", "-q", url(user), "main").code == 0


def test_who_may(
    work: Work,
    url: Url,
    user: User,
    bob: User,
    sessions: sessionmaker[Session],
    caller: Callable[[User], Any],
    tmp_path: Path,
) -> None:
    work.commit()
    remote = url(user)
    wrong = f"http://ada:lf_wrong@{remote.split('@')[1]}"
    assert "Authentication failed" in work("push", wrong, "main").said
    another = remote.replace("//ada:", "//bob:")
    assert "Authentication failed" in work("push", another, "main").said
    assert work("push", "-q", remote, "main").code == 0
    there, none = (run_git(tmp_path, "clone", url(bob, name), "copy") for name in ("mine", "none"))
    assert there.remote.replace("mine", "none") == none.remote
    assert "There is no protocol 'none'." in none.remote
    refused = work("push", url(bob), "main")
    assert "of somebody else" in refused.remote
    caller(user)("POST", "protocols/mine/share", json={"users": ["bob"]})
    assert run_git(tmp_path, "clone", "-q", url(bob), "copy").code == 0
    Path(tmp_path / "copy" / "more.txt").write_text("more")
    copy = tmp_path / "copy"
    run_git(copy, "add", "-A")
    run_git(copy, "commit", "-q", "-m", "more")
    assert "of somebody else" in run_git(copy, "push", "origin", "main").remote
    assert list(versions(sessions)) == ["1.0.0"]


def test_an_upload_goes_on_where_a_push_ended(
    work: Work, url: Url, user: User, caller: Callable[[User], Any], sessions: sessionmaker[Session]
) -> None:
    from protocol_archives import archive

    first = work.commit()
    work("push", "-q", url(user), "main")
    api = caller(user)
    answer = api("POST", "protocols", data=archive(version="2.0.0"), content_type="application/x-tar")
    assert answer.status_code == 201
    assert list(versions(sessions)) == ["1.0.0", "2.0.0"]
    assert work("pull", "-q", "--ff-only", url(user), "main").code == 0
    assert work("rev-parse", "HEAD^").said.strip() == first
    assert api("GET", f"protocols/mine/interface?version={first[:9]}").json["commit"] == first


def test_hooks_and_configuration_of_users_count_for_nothing(
    work: Work, url: Url, user: User, parts: Services, tmp_path: Path
) -> None:
    work.commit(
        files={"hooks/pre-receive": "#!/bin/sh\ntouch /tmp/never\n", "config": "[core]\nbare = false\n"}
    )
    (work.directory / ".gitattributes").write_text("main.py export-ignore\n*.txt export-subst\n")
    (work.directory / "id.txt").write_text("$Format:%H$\n")
    work("add", "-A")
    work("commit", "-q", "--amend", "-m", "all")
    assert work("push", "-q", url(user), "main").code == 0
    store = ProtocolStore(parts.settings.web.protocols)
    tar = b"".join(store.archive("mine", store.resolve("mine")))
    assert b"main.py" in tar
    assert b"$Format:%H$" in tar
    assert not (parts.settings.web.protocols / "mine.git" / "hooks").exists()


def test_only_so_many_at_a_time(work: Work, url: Url, user: User, parts: Services) -> None:
    work.commit()
    remote = url(user)
    assert parts.gits.acquire(blocking=False)
    assert work("ls-remote", remote).code == 128  # one is free: the protocol is not there
    assert parts.gits.acquire(blocking=False)
    busy = work("push", remote, "main")
    assert busy.code == 128
    assert "Try again in some seconds." in busy.remote
    parts.gits.release()
    assert work("push", "-q", remote, "main").code == 0
    assert run_git(work.directory, "ls-remote", "-q", remote).code == 0
