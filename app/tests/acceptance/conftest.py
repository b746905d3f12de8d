"""Fixtures of the acceptance tests: the deployed lab, its users, and its doors."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from . import admin as admin_cli
from . import lab as labs
from .api import Api, connect
from .playbook import Run, site
from .waiting import wait_for
from .webdriver import SIGNED_OUT, Browser, chromium, key_digest, sign_in

Cli = Callable[..., "subprocess.CompletedProcess[str]"]
TEST_PROTOCOLS = ("behave", "hasty", "libraries", "r-libraries", "probe", "noop")
PASSWORD = "a password only of tests, 4711"


@pytest.fixture(scope="session")
def lab() -> labs.Lab:
    """The lab that `LABFLEET_INVENTORY` names."""
    return labs.load(labs.inventory_path())


@pytest.fixture(scope="session")
def again(lab: labs.Lab, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One more run of site.yml, as talkative as an admin may ask for; its output has also its log."""
    log = tmp_path_factory.mktemp("again") / "log"
    run = site(lab.inventory, "-vvv", ANSIBLE_LOG_PATH=str(log)).good()
    return Run(run.code, run.output + log.read_text(errors="replace"))


@pytest.fixture(scope="session")
def webserver(lab: labs.Lab) -> labs.Machine:
    return lab.machine("webserver")


@pytest.fixture(scope="session")
def worker(lab: labs.Lab) -> labs.Machine:
    return lab.machine("worker")


@pytest.fixture(scope="session")
def queue(lab: labs.Lab) -> labs.Machine:
    return lab.machine("queue")


@pytest.fixture(scope="session")
def broker(lab: labs.Lab) -> labs.Machine:
    return lab.machine("rabbitmq")


@pytest.fixture(scope="session")
def admin(lab: labs.Lab) -> Iterator[Api]:
    """The admin account that site.yml made."""
    api = Api.login(lab.url, lab.ca_file, "admin", lab.secret("admin_password"))
    yield api
    api.http.close()


@pytest.fixture(scope="session")
def user(lab: labs.Lab, webserver: labs.Machine) -> Iterator[Api]:
    """A scientist, with the test protocols in the catalogue."""
    admin_cli.add_user(webserver, "acceptance", PASSWORD)
    admin_cli.import_protocols(webserver, *TEST_PROTOCOLS)
    api = Api.login(lab.url, lab.ca_file, "acceptance", PASSWORD)
    yield api
    api.http.close()


@pytest.fixture(scope="session")
def other(lab: labs.Lab, webserver: labs.Machine) -> Iterator[Api]:
    """Another scientist."""
    admin_cli.add_user(webserver, "acceptance-other", PASSWORD)
    api = Api.login(lab.url, lab.ca_file, "acceptance-other", PASSWORD)
    yield api
    api.http.close()


@pytest.fixture(scope="session")
def nobody(lab: labs.Lab) -> Iterator[Api]:
    """Somebody without a token."""
    with connect(lab.url, lab.ca_file) as http:
        yield Api(http)


@pytest.fixture(autouse=True, scope="session")
def deployed(nobody: Api, lab: labs.Lab) -> None:
    """Stop with one clear line when there is no lab to test."""
    try:
        answer = nobody.http.get("/api/v1/ready")
    except httpx.TransportError as error:
        pytest.exit(f"{lab.url} does not answer ({error}); run ./lab up", returncode=1)
    if answer.status_code != 200:
        pytest.exit(f"{lab.url} is not ready ({answer.text}); run ./lab status", returncode=1)


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home of its own for the command line under test."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def cli(home: Path) -> Cli:
    """The real `labfleet` command of this environment, run as a subprocess."""

    def run(*arguments: str, stdin: str = "", code: int | None = 0) -> subprocess.CompletedProcess[str]:
        plain = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        environment = {**plain, "HOME": str(home), "COLUMNS": "200"}
        done = subprocess.run(
            [str(labs.BIN / "labfleet"), *arguments],
            input=stdin,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if code is not None:
            assert done.returncode == code, f"{arguments} → {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return run


@pytest.fixture
def signed_in(cli: Cli, lab: labs.Lab, user: Api) -> Cli:
    """The command line after `labfleet login`."""
    arguments = ("--user", "acceptance", "--ca-file", str(lab.ca_file), "--password-file", "-")
    cli("login", lab.url, *arguments, stdin=PASSWORD)
    return cli


@pytest.fixture
def worker_stopped(lab: labs.Lab) -> Iterator[None]:
    """No worker takes work while the test runs."""
    for machine in lab.of("worker"):
        machine.run("systemctl stop labfleet-worker")
    yield
    for machine in lab.of("worker"):
        machine.run("systemctl start labfleet-worker")


@pytest.fixture(scope="session")
def browser(lab: labs.Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("chromium"), key_digest(lab)) as opened:
        yield opened


@pytest.fixture(scope="module")
def job(user: Api) -> str:
    """A finished analysis with a plot, among the newest."""
    submitted = user.submit("differential-network", label="seen in a browser")
    assert user.wait(submitted, seconds=180)["state"] == "success"
    return str(submitted["id"])


@pytest.fixture
def window(browser: Browser, lab: labs.Lab) -> Browser:
    browser.open(lab.url)
    if browser.script(SIGNED_OUT):
        sign_in(browser, "acceptance", PASSWORD)
        wait_for(lambda: not browser.script(SIGNED_OUT), 60, "sign-in")
    browser.complaints()  # what earlier pages said is not this test's
    return browser
