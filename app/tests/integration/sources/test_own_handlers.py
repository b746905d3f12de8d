"""Handlers of a lab's own: a wheel is made, installed beside Labfleet, and fetched through."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from package_index import wheel
from resident import RUN, wait_for

from labfleet.db.models import SourceHandler

from .conftest import Lab, Site

MODULE = '''
import os
import socket

from labfleet.fetching.handlers.base import Fetched, Handler, Task
from labfleet.fetching.handlers.http import client_of, failures, received

PARAMETERS = {
    "type": "object",
    "properties": {"url": {"type": "string", "title": "Address"}},
    "required": ["url"],
    "additionalProperties": False,
}


class Plates(Handler):
    title = "Plate store"
    description = "Read-outs of the plate reader."
    parameters = PARAMETERS
    credentials = {
        "type": "object",
        "properties": {"key": {"type": "string", "title": "Key", "format": "password"}},
        "additionalProperties": False,
    }
    place = ("url",)

    def fetch(self, task: Task) -> Fetched:
        print("what a library prints")
        headers = {"X-Key": task.credentials.get("key", "")}
        with failures(task), client_of(task) as client:
            with client.stream("GET", task.parameters["url"], headers=headers) as response:
                return received(task, response)


class Curious(Handler):
    """Looks for what it may not have."""

    title = "Curious"
    description = "Connects by itself."
    parameters = PARAMETERS

    def fetch(self, task: Task) -> Fetched:
        found = [name for name in os.environ if "CREDENTIALS" in name]
        try:
            socket.create_connection(("127.0.0.1", 9998), 5)
        except OSError as error:
            found.append(str(error))
        path = task.work / "found.txt"
        path.write_text(" ".join(found))
        return Fetched(path, path.name)


class Vague(Handler):
    title = ""
    description = "Says nothing."
    parameters = PARAMETERS

    def fetch(self, task: Task) -> Fetched:
        raise AssertionError


def no_class() -> None:
    pass
'''
ENTRIES = (
    "[labfleet.source_handlers]",
    "plates = plates_handler:Plates",
    "curious = plates_handler:Curious",
    "http = plates_handler:Plates",
    "vague = plates_handler:Vague",
    "away = plates_handler.nowhere:Plates",
    "function = plates_handler:no_class",
    "Capital = plates_handler:Plates",
)
FAULTS = {
    "http": "there is a handler 'http' already",
    "vague": "'title' is to be a text",
    "away": "plates_handler.nowhere:Plates can't be imported: ModuleNotFoundError",
    "function": "is no class of labfleet.fetching.handlers.base.Handler",
    "Capital": "its name is to have small letters",
}


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that has Labfleet, and the wheel."""
    folder = tmp_path_factory.mktemp("own")
    name, content = wheel(
        "plates-handler", "1.0", files={"plates_handler/__init__.py": MODULE}, entries=ENTRIES
    )
    (folder / name).write_bytes(content)
    environment = folder / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    paths = sysconfig.get_paths("venv", {"base": str(environment), "platbase": str(environment)})
    packages = Path(paths["purelib"])
    ours = sysconfig.get_path("purelib")
    (packages / "labfleet_of_the_tests.pth").write_text(f"import site; site.addsitedir({ours!r})\n")
    interpreter = environment / "bin" / "python"
    uv = Path(sys.executable).with_name("uv")
    command = [str(uv), "pip", "install", "--quiet", "--offline", "--no-deps", "--no-config"]
    subprocess.run([*command, "--python", str(interpreter), str(folder / name)], check=True)
    return interpreter


def test_a_wheel_s_handler_fetches_as_ours_do(lab: Lab, site: Site, python: Path) -> None:
    fetcher, loader = lab.processes.pop("fetcher"), lab.processes.pop("loader")
    for process in (fetcher, loader):
        process.terminate()
        process.communicate(timeout=60)
    lab.python = python
    lab.start("fetcher")
    lab.start("loader")

    def handlers() -> set[str]:
        with lab.sessions() as db:
            return {row.name for row in db.query(SourceHandler)}

    wait_for(lambda: "plates" in handlers())
    assert handlers() == {"http", "folder", "s3", "postgresql", "mariadb", "git", "plates", "curious"}
    site.files["/a.csv"] = b"well,od\nA1,0.5\n"
    source = lab.source(given={"key": "sesame"}, handler="plates", parameters={"url": site.url("/a.csv")})
    fetch = lab.fetched(source)
    assert (fetch.state, fetch.message, fetch.rows) == ("success", "", 1)
    assert {name.lower(): value for name, value in site.asked[-1][1].items()}["x-key"] == "sesame"
    looked = lab.source("looked", handler="curious", parameters={"url": "x"}, format="file")
    found = lab.content(lab.fetched(looked)).read_text()
    assert found == "its port 9998 may not be fetched from (allowed: " + found.partition("allowed: ")[2]
    plain = lab.source("plain", handler="http", parameters={"url": site.url("/a.csv")})
    assert lab.fetched(plain).state == "success"
    assert "x-key" not in {name.lower() for name in site.asked[-1][1]}
    fetcher = lab.processes.pop("fetcher")
    fetcher.terminate()
    _, log = fetcher.communicate(timeout=60)
    assert "what a library prints" in log and "sesame" not in log
    for fault in FAULTS.values():
        assert fault in log, log


def test_an_admin_is_told_what_is_wrong(python: Path) -> None:
    done = subprocess.run(
        [str(python), "-c", RUN, "fetcher", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    told = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert {name for name, what in told.items() if what == "ok"} == {"plates", "curious"}
    assert set(told) - {"plates", "curious"} == set(FAULTS)
    for name, fault in FAULTS.items():
        assert fault in told[name]
