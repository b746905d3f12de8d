"""Protocols from git repositories, with real processes and git's own server."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from protocol_archives import files_of
from resident import wait_for
from sqlalchemy import select

from labfleet.db.models import Fetch, Protocol, ProtocolVersion, Source, User
from labfleet.errors import InvalidSource
from labfleet.protocols import service as protocols
from labfleet.protocols.store import ProtocolStore
from labfleet.sources import fetches, imports, service
from labfleet.sources.spec import Definition
from labfleet.sources.vault import Vault

from .conftest import KEYS, Lab, Site

IDENTITY = ("-c", "user.name=Ada", "-c", "user.email=ada@localhost", "-c", "init.defaultBranch=main")


class Work:
    """Somebody's working tree, whose repository the web server has."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True)
        self("init", "-q")

    def __call__(self, *arguments: str) -> str:
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.directory), "GIT_CONFIG_NOSYSTEM": "1"}
        program = ["git", *IDENTITY, *arguments]
        done = subprocess.run(
            program, cwd=self.directory, env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def commit(self, version: str = "1.0.0", files: dict[str, str] | None = None, extra: str = "") -> str:
        for name, text in files_of(version=version, files=files, extra=extra).items():
            path = self.directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self("add", "-A")
        self("commit", "-q", "--allow-empty", "-m", version)
        return self("rev-parse", "HEAD")


@pytest.fixture
def work(site: Site, tmp_path: Path) -> Work:
    site.repositories = tmp_path / "forge"
    return Work(tmp_path / "forge" / "mine")


@pytest.fixture
def url(site: Site) -> str:
    return site.url("/git/mine/.git")


def ask(lab: Lab, url: str, given: dict[str, str] | None = None, **parameters: object) -> Fetch:
    with lab.sessions.begin() as db:
        user = db.merge(lab.user)
        asked = {"url": url, **parameters}
        return imports.ask(db, user, asked, given=given, vault=Vault(KEYS), kept=5)


def imported(lab: Lab, url: str, given: dict[str, str] | None = None, **parameters: object) -> Fetch:
    return lab.ended(ask(lab, url, given, **parameters))


def versions(lab: Lab) -> dict[str, str]:
    with lab.sessions() as db:
        rows = db.scalars(select(ProtocolVersion).order_by(ProtocolVersion.created_at)).all()
        return {row.version: row.commit for row in rows}


def left(lab: Lab) -> list[str]:
    return sorted(path.name for path in lab.protocols.glob("*")) + sorted(
        path.name for path in lab.protocols.glob(".*")
    )


def nothing(lab: Lab) -> bool:
    with lab.sessions() as db:
        rows = db.scalars(select(Protocol)).all()
    return rows == [] and left(lab) == []


def test_a_repository_becomes_a_protocol_and_its_tags_versions(lab: Lab, work: Work, url: str) -> None:
    first = work.commit()
    work("tag", "-a", "v1.0.0", "-m", "the first")
    second = work.commit("1.10.0", {"main.py": "print('ten')\n"})
    work("tag", "1.10.0")
    work("tag", "nightly")
    third = work.commit("2.0.0")
    fetch = imported(lab, url)
    assert fetch.state == "success", fetch.message
    assert fetch.changed
    assert versions(lab) == {"1.0.0": first, "1.10.0": second, "2.0.0": third}
    assert fetch.progress_text == "mine 1.0.0, 1.10.0, 2.0.0"
    assert "Tag nightly is left out" in fetch.message
    with lab.sessions() as db:
        row = db.scalars(select(Protocol)).one()
        assert (row.owner_id, row.public, row.stored_bytes > 0) == (lab.user.id, False, True)
        source = db.scalars(select(Source)).one()
        assert (source.name, source.protocol_id, source.dataset_id) == (
            ".git"[:0] or "protocol",
            row.id,
            None,
        )
        assert source.definition["format"] == "protocol"
    store = ProtocolStore(lab.protocols)
    assert store.file("mine", second, "main.py", 100) == b"print('ten')\n"
    wait_for(lambda: list(lab.work.iterdir()) == [])


def test_asked_again_it_brings_what_is_new(lab: Lab, work: Work, url: str) -> None:
    first = work.commit()
    assert imported(lab, url).changed
    again = imported(lab, url)
    assert (again.state, again.changed, again.message) == ("success", False, "")
    second = work.commit("1.1.0")
    more = imported(lab, url)
    assert (more.state, more.changed, more.progress_text) == ("success", True, "mine 1.1.0")
    assert versions(lab) == {"1.0.0": first, "1.1.0": second}
    with lab.sessions() as db:
        assert len(db.scalars(select(Source)).all()) == 1


def test_a_rewritten_history_is_followed_only_when_that_is_said(lab: Lab, work: Work, url: str) -> None:
    first = work.commit()
    imported(lab, url)
    work("commit", "-q", "--amend", "-m", "other words")
    amended = work("rev-parse", "HEAD")
    refused = imported(lab, url)
    assert refused.state == "failed"
    assert "its history was rewritten" in refused.message
    assert versions(lab) == {"1.0.0": first}
    followed = imported(lab, url, rewrite=True)
    assert followed.state == "success", followed.message
    assert versions(lab) == {"1.0.0": first, f"1.0.0+{amended[:10]}": amended}
    assert imported(lab, url).state == "success"


def test_a_tag_that_was_moved_leaves_the_version_here(lab: Lab, work: Work, url: str) -> None:
    first = work.commit()
    work("tag", "1.0.0")
    imported(lab, url)
    work.commit(files={"main.py": "print('moved')\n"})
    work("tag", "-f", "1.0.0")
    fetch = imported(lab, url)
    assert fetch.state == "success", fetch.message
    assert "The version 1.0.0 is another one here, and stays" in fetch.message
    assert versions(lab)["1.0.0"] == first


def test_a_branch_and_no_tags(lab: Lab, work: Work, url: str) -> None:
    work.commit()
    work("tag", "1.0.0")
    work("checkout", "-q", "-b", "next")
    ahead = work.commit("2.0.0")
    work("checkout", "-q", "main")
    assert imported(lab, url, branch="next", tags=False).state == "success"
    assert versions(lab) == {"2.0.0": ahead}
    wrong = imported(lab, url, branch="nowhere")
    assert wrong.message == "The repository has no branch 'nowhere': name one of its own (main, next)."


def test_a_private_repository_sees_its_credentials(lab: Lab, work: Work, url: str, site: Site) -> None:
    site.login = "ada:secret token"
    work.commit()
    refused = imported(lab, url)
    assert "The server answered 401" in refused.message
    wrong = imported(lab, url, {"user": "ada", "password": "guessed"})
    assert "Are the credentials right" in wrong.message
    assert "guessed" not in wrong.message
    assert nothing(lab)
    assert imported(lab, url, {"user": "ada", "password": "secret token"}).state == "success"
    site.asked.clear()
    assert imported(lab, url).state == "success"  # they are kept for the next time
    assert all("Authorization" in headers for _, headers in site.asked)
    kept = (lab.protocols / "mine.git" / "config").read_text()
    assert "token" not in kept
    assert "127.0.0.1" not in kept


def test_credentials_do_not_follow_a_redirect_to_another_server(
    lab: Lab, work: Work, url: str, site: Site
) -> None:
    work.commit()
    moved = url.replace("127.0.0.1", "localhost")
    path = "/moved/info/refs?service=git-upload-pack"
    site.files[path] = b""
    site.status[path] = 302
    site.headers[path] = {"Location": f"{moved}/info/refs?service=git-upload-pack"}
    fetch = imported(lab, site.url("/moved"), {"password": "secret"})
    assert fetch.state == "success", fetch.message
    shown = ["Authorization" in headers for _, headers in site.asked]
    assert shown == [True, False, False]


def test_a_redirect_to_a_private_address_is_refused(lab: Lab, site: Site) -> None:
    path = "/moved/info/refs?service=git-upload-pack"
    site.files[path] = b""
    site.status[path] = 302
    site.headers[path] = {
        "Location": f"http://192.168.7.7:{site.port}/git/mine/.git/info/refs?service=git-upload-pack"
    }
    fetch = imported(lab, site.url("/moved"))
    assert fetch.state == "failed"
    assert "192.168.7.7 lies in no network that may be fetched from" in fetch.message
    assert (fetch.tries, nothing(lab)) == (1, True)


@pytest.mark.parametrize("address", ["file:///etc", "ssh://host/x.git", "git@host:x.git", "ext::sh -c id"])
def test_other_ways_than_https_are_no_addresses(lab: Lab, address: str) -> None:
    with pytest.raises(InvalidSource):
        ask(lab, address)


def test_what_is_no_repository(lab: Lab, site: Site) -> None:
    site.files["/page/info/refs?service=git-upload-pack"] = b"<html>"
    assert "There is no git repository at this address" in imported(lab, site.url("/page")).message
    assert "404" in imported(lab, site.url("/nothing/here")).message
    assert nothing(lab)


def test_an_empty_repository_and_one_without_a_manifest(lab: Lab, work: Work, url: str) -> None:
    assert "The repository is empty" in imported(lab, url).message
    (work.directory / "README").write_text("none\n")
    work("add", "-A")
    work("commit", "-q", "-m", "none")
    assert "there is no file protocol.yml at its top" in imported(lab, url).message
    assert nothing(lab)


def test_every_version_is_checked_and_a_fault_leaves_nothing(lab: Lab, work: Work, url: str) -> None:
    work.commit(files={"main.py": "print('unfinished\n"})
    fetch = imported(lab, url)
    assert fetch.state == "failed"
    assert "main.py:1" in fetch.message
    assert "Nothing was taken in." in fetch.message
    assert nothing(lab)


def test_a_fault_in_a_tag_leaves_what_was_there(lab: Lab, work: Work, url: str) -> None:
    work.commit()
    imported(lab, url)
    before, refs = versions(lab), ProtocolStore(lab.protocols).refs("mine")
    work.commit("1.1.0", {"main.py": "print('unfinished\n"})
    work("tag", "1.1.0")
    work.commit("1.2.0", {"main.py": "print('well')\n"})
    assert "tag 1.1.0" in imported(lab, url).message
    assert (versions(lab), ProtocolStore(lab.protocols).refs("mine")) == (before, refs)
    assert imported(lab, url, tags=False).state == "success"


def test_submodules_are_refused(lab: Lab, work: Work, url: str) -> None:
    commit = work.commit()
    work("update-index", "--add", "--cacheinfo", f"160000,{commit},sub")
    work("commit", "-q", "-m", "with a submodule")
    assert "submodules are not followed: sub" in imported(lab, url).message
    assert nothing(lab)


def test_objects_that_git_finds_unsound_are_refused(lab: Lab, work: Work, url: str) -> None:
    work.commit()
    tree = work("rev-parse", "HEAD^{tree}")
    forged = work.directory / "forged"
    forged.write_text(f"tree {tree}\nauthor A <a@b> 0 +0000\ncommitter nobody\n\nx\n")
    commit = work("hash-object", "-t", "commit", "-w", "--literally", str(forged))
    work("update-ref", "refs/heads/main", commit)
    fetch = imported(lab, url)
    assert fetch.state == "failed"
    assert "Git finds it unsound" in fetch.message
    assert "missingEmail" in fetch.message
    assert nothing(lab)


def test_too_large(lab: Lab, work: Work, url: str) -> None:
    work.commit(files={"noise": os.urandom(450_000).hex()})
    assert "It is larger than the 400,000 bytes" in imported(lab, url).message
    assert nothing(lab)


def test_too_many_objects(lab: Lab, work: Work, url: str) -> None:
    work.commit(files={f"f{number}": str(number) for number in range(80)})
    assert "60 may be brought at once" in imported(lab, url).message
    assert nothing(lab)


def test_a_server_that_goes_away_in_the_middle_is_tried_again(
    lab: Lab, work: Work, url: str, site: Site
) -> None:
    work.commit(files={"noise": os.urandom(20_000).hex()})
    site.cut = 9000
    fetch = ask(lab, url)
    wait_for(lambda: lab.seen(fetch).tries >= 2)
    site.cut = None
    assert lab.ended(fetch).state == "success"
    site.cut = 9000
    work.commit("1.1.0", {"noise": os.urandom(20_000).hex()})
    ended = imported(lab, url)
    assert (ended.state, ended.tries) == ("failed", 3)
    assert len(versions(lab)) == 1


def test_a_slow_server_can_be_cancelled(lab: Lab, work: Work, url: str, site: Site) -> None:
    work.commit()
    site.gate.clear()
    fetch = ask(lab, url)
    wait_for(lambda: len(site.asked) == 1)
    assert ask(lab, url).id == fetch.id
    with lab.sessions.begin() as db:
        fetches.cancel(db, db.merge(lab.user), fetch.source_id, fetch.id)
    assert lab.ended(fetch).state == "cancelled"
    site.gate.set()
    wait_for(lambda: list(lab.work.iterdir()) == [])
    assert nothing(lab)


def test_a_name_that_is_taken(
    lab: Lab, work: Work, url: str, make_user: Callable[..., User], tmp_path: Path
) -> None:
    bob = make_user("bob")
    (tmp_path / "theirs").mkdir()
    for name, text in files_of(title="Theirs").items():
        (tmp_path / "theirs" / name).write_text(text)
    with lab.sessions.begin() as db:
        kept = protocols.keep(db, ProtocolStore(lab.protocols), db.merge(bob), tmp_path / "theirs")
    work.commit()
    fetch = imported(lab, url)
    assert "There is a protocol 'mine' of somebody else." in fetch.message
    assert versions(lab) == {"1.0.0": kept.commit}


def test_a_handler_for_protocols_brings_no_tables(lab: Lab) -> None:
    with lab.sessions.begin() as db:
        user = db.merge(lab.user)
        for told in (
            {"handler": "git", "parameters": {"url": "https://example.org/x"}, "format": "csv"},
            {"handler": "http", "parameters": {"url": "https://example.org/x"}, "format": "protocol"},
        ):
            with pytest.raises(InvalidSource):
                service.add_source(db, user, "x", Definition.model_validate(told), lifetime_seconds=0)
