"""Fixtures of the fleet's tests: a lab of its own, whose machines the tests take away."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from acceptance import admin as admin_cli
from acceptance.api import Api
from acceptance.conftest import PASSWORD, deployed, lab, nobody, webserver  # noqa: F401  (fixtures)
from acceptance.lab import Lab, Machine
from resilience import ledger
from resilience.conftest import PROTOCOLS
from resilience.load import Load

USER = "fleet"


@pytest.fixture(scope="session")
def database(lab: Lab) -> Machine:  # noqa: F811
    return lab.machine("database")


@pytest.fixture(scope="session")
def user(lab: Lab, webserver: Machine, deployed: None) -> Iterator[Api]:  # noqa: F811
    """A scientist, with the test protocol in the catalogue."""
    for machine in lab.machines.values():
        machine.run("DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends nftables")
    admin_cli.add_user(webserver, USER, PASSWORD)
    admin_cli.import_protocols(webserver, "mark", root=PROTOCOLS)
    api = Api.login(lab.url, lab.ca_file, USER, PASSWORD)
    yield api
    api.http.close()


@pytest.fixture
def load(user: Api) -> Load:
    """Jobs under a label of their own."""
    return Load(user, f"{USER} {uuid.uuid4()}")


@pytest.fixture(autouse=True)
def nothing_left(database: Machine) -> Iterator[None]:
    """No test begins while an earlier one's tasks run."""
    yield
    ledger.settle(database, USER, 120)
