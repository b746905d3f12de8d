"""Fixtures of the update tests: a lab that runs this checkout's release, and newer ones made of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from acceptance import admin as admin_cli
from acceptance.api import Api
from acceptance.conftest import PASSWORD, deployed, lab, nobody, webserver, worker  # noqa: F401  (fixtures)
from acceptance.lab import Lab, Machine

from .newer import Checkout, checkout

PROTOCOLS = Path(__file__).parents[1] / "protocols"
Make = Callable[[str], Checkout]


@pytest.fixture(scope="session")
def database(lab: Lab) -> Machine:  # noqa: F811
    return lab.machine("database")


@pytest.fixture(scope="session")
def user(lab: Lab, webserver: Machine) -> Iterator[Api]:  # noqa: F811
    """A scientist, with the test protocol in the catalogue."""
    admin_cli.add_user(webserver, "operations", PASSWORD)
    admin_cli.import_protocols(webserver, "mark", root=PROTOCOLS)
    api = Api.login(lab.url, lab.ca_file, "operations", PASSWORD)
    yield api
    api.http.close()


@pytest.fixture(scope="session")
def spare(lab: Lab) -> Machine:  # noqa: F811
    """The worker on a machine of its own."""
    return lab.of("worker")[1]


@pytest.fixture(scope="session")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Makes a checkout with a version of its own."""

    def make(version: str) -> Checkout:
        folder: Path = tmp_path_factory.mktemp("newer")
        return checkout(folder, version)

    return make


@pytest.fixture
def before(lab: Lab) -> dict[str, str]:  # noqa: F811
    """What each machine runs as the test begins."""
    return running(lab)


def running(lab: Lab) -> dict[str, str]:  # noqa: F811
    """The current release of each machine."""
    return {
        name: machine.run("readlink /opt/labfleet/current").strip() for name, machine in lab.machines.items()
    }
